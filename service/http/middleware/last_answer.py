"""Ends connections with an answer while the process drains.

A connection that is closed between two requests may have the second one on its way: its client sees
neither an answer nor a refusal.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.core.serving import ServingCore


class LastAnswer:
    """Says ``Connection: close`` with every answer of a process that drains."""

    def __init__(self, app: ASGIApp, core: ServingCore) -> None:
        self._app = app
        self._core = core

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def closing_send(message: Message) -> None:
            if message["type"] == "http.response.start" and self._core.scheduler.draining:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self._app(scope, receive, closing_send)
