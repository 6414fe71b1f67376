"""Which answers end their connection, and that they arrive.

A connection that is closed between two requests may have the second one on its way, and one that
is closed with bytes unread takes the answer along: in both cases the client sees neither an answer
nor a refusal. So a process that drains ends each connection by an answer that says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import math

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.core.serving import ServingCore

# Read and thrown away for the sake of the connection; more costs more than a new one.
_DISCARDED_BYTES = 32 * 1024
_DISCARDED_S = 1.0


class LastAnswer:
    """Says ``Connection: close`` with an answer that leaves much of the request's body unread,
    which the server would otherwise go on reading to throw it away, and with every answer of a
    process that drains. Of the latter's requests the rest of a small body is read first.
    """

    def __init__(self, app: ASGIApp, core: ServingCore) -> None:
        self._app = app
        self._core = core

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        left = _body_bytes(scope)

        async def counting_receive() -> Message:
            nonlocal left
            message = await receive()
            if message["type"] == "http.request":
                more = message.get("more_body", False)
                left = left - len(message.get("body", b"")) if more else 0
            else:  # the client is gone
                left = 0
            return message

        async def closing_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                draining = self._core.scheduler.draining
                if draining or left > _DISCARDED_BYTES:
                    MutableHeaders(scope=message)["Connection"] = "close"
                if draining and left <= _DISCARDED_BYTES:
                    await read_rest()
            await send(message)

        async def read_rest() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DISCARDED_S):
                    while left > 0:
                        await counting_receive()

        await self._app(scope, counting_receive, closing_send)


def _body_bytes(scope: Scope) -> float:
    """As the headers say; infinity where they do not."""
    headers = Headers(scope=scope)
    if "transfer-encoding" in headers:
        return math.inf
    declared = headers.get("content-length", "0")
    return int(declared) if declared.isascii() and declared.isdigit() else math.inf
