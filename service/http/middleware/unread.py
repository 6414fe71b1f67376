"""Hangs up on a body that nobody wants."""

from __future__ import annotations

import math

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Read and thrown away for the sake of the connection; more costs more than a new one.
_DISCARDED_BYTES = 32 * 1024


class Unread:
    """Closes the connection after an answer that leaves much of the request's body unread.

    The server would go on reading it, however long it is, to throw it away.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not (left := _body_bytes(scope)):
            await self._app(scope, receive, send)
            return

        async def counting_receive() -> Message:
            nonlocal left
            message = await receive()
            if message["type"] == "http.request":
                more = message.get("more_body", False)
                left = left - len(message.get("body", b"")) if more else 0
            return message

        async def closing_send(message: Message) -> None:
            if message["type"] == "http.response.start" and left > _DISCARDED_BYTES:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self._app(scope, counting_receive, closing_send)


def _body_bytes(scope: Scope) -> float:
    """As the headers say; infinity where they do not."""
    headers = Headers(scope=scope)
    if "transfer-encoding" in headers:
        return math.inf
    declared = headers.get("content-length", "0")
    return int(declared) if declared.isascii() and declared.isdigit() else math.inf
