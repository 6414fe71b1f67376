"""Bounds bodies before anything reads them: each one's size, and the sum of all in flight."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model.errors import TaskRouteError
from service.core.errors import BodyTooLargeError, MalformedRequestError, OverloadedError
from service.core.telemetry import Telemetry
from service.http.errors import error_response
from service.http.record import record_of

_RETRY_S = 1


class BodyLimit:
    """Refuses declared bodies unread, and cuts chunked ones off at the limit.

    What a request was sent counts as in flight until it is answered, because it may be held that
    long.
    """

    def __init__(
        self, app: ASGIApp, max_bytes: int, max_inflight_bytes: int, telemetry: Telemetry
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_inflight = max_inflight_bytes
        self._telemetry = telemetry
        self._inflight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            declared = _declared_length(scope)
            self._check(declared, declared)
        except TaskRouteError as error:
            record = record_of(scope)
            record.code = error.code
            await error_response(error, record.request_id)(scope, receive, send)
            return
        # Declared bytes are reserved at once; of a chunked body what has come.
        counted, reserved = 0, declared
        self._inflight += reserved

        async def counting_receive() -> Message:
            nonlocal counted, reserved
            message = await receive()
            if message["type"] == "http.request":
                counted += len(message.get("body", b""))
                more = max(0, counted - reserved)
                self._check(counted, more)
                reserved += more
                self._inflight += more
            return message

        try:
            await self._app(scope, counting_receive, send)
        finally:
            self._inflight -= reserved

    def _check(self, size: int, more: int) -> None:
        if size > self._max_bytes:
            raise BodyTooLargeError(
                f"the body has {size} bytes or more; the limit is {self._max_bytes} "
                "(max_body_bytes)",
                max_body_bytes=self._max_bytes,
            )
        if self._inflight + more > self._max_inflight:
            self._telemetry.shed("body_bytes")
            raise OverloadedError(
                f"bodies in flight hold {self._inflight} bytes; the limit is {self._max_inflight} "
                f"(max_inflight_body_bytes); try again in {_RETRY_S} s",
                retry_after_s=_RETRY_S,
                reason="body_bytes",
            )


def _declared_length(scope: Scope) -> int:
    value = Headers(scope=scope).get("content-length", "0")
    if not (value.isascii() and value.isdigit()):
        raise MalformedRequestError(f"Content-Length is {value[:40]!r}, not a number of bytes")
    return int(value)
