"""Turns what nobody expected into an answer without a traceback."""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.errors import internal_error_response
from service.http.record import record_of

logger = logging.getLogger(__name__)


class Shield:
    """Catches every exception that the error handlers do not know; the log gets the traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watching_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watching_send)
        except Exception:
            record = record_of(scope)
            record.code = "internal_error"
            logger.exception("unexpected", extra={"fields": {"request_id": record.request_id}})
            if started:  # too late for another status: the server will cut the connection
                raise
            await internal_error_response(record.request_id)(scope, receive, send)
