"""Bounds bodies before anything reads them: each one's size, and the sum of all in flight."""

from __future__ import annotations

import asyncio
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model.errors import TaskRouteError
from service.core.errors import (
    BodyTooLargeError,
    DeadlineError,
    MalformedRequestError,
    OverloadedError,
)
from service.core.telemetry import Telemetry
from service.http.errors import error_response
from service.http.record import record_of

_RETRY_S = 1
_PREDICTION = re.compile(r"/v1/predict|/v2/models/[^/]+(/versions/[^/]+)?/infer")
# What brings no images is short. It is parsed on the event loop, and nothing else bounds the time
# in which it comes.
SHORT_BYTES = 64 * 1024


class BodyLimit:
    """Refuses declared bodies unread, and cuts chunked ones off at the limit.

    What a request was sent counts as in flight until it is answered, because it may be held that
    long.

    Args:
        max_bytes: of a prediction's body.
        max_inflight_bytes: of all bodies together.
        max_s: in which any other body has to come; predictions have deadlines of their own.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int,
        max_inflight_bytes: int,
        max_s: float,
        telemetry: Telemetry,
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_inflight = max_inflight_bytes
        self._max_s = max_s
        self._telemetry = telemetry
        self._inflight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        prediction = _PREDICTION.fullmatch(scope["path"]) is not None
        most = self._max_bytes if prediction else min(SHORT_BYTES, self._max_bytes)
        try:
            declared = _declared_length(scope)
            self._check(declared, declared, most)
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
                self._check(counted, more, most)
                reserved += more
                self._inflight += more
            return message

        limited = counting_receive if prediction else self._in_time(counting_receive)
        try:
            await self._app(scope, limited, send)
        finally:
            self._inflight -= reserved

    def _in_time(self, receive: Receive) -> Receive:
        until = asyncio.get_running_loop().time() + self._max_s
        pending = True

        async def timely_receive() -> Message:
            nonlocal pending
            if not pending:  # what comes next is the client's leaving
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise DeadlineError(
                    f"the body did not come within {self._max_s:.3g} s (max_request_timeout_ms)",
                    stage="read",
                ) from None
            pending = message.get("more_body", False)
            return message

        return timely_receive

    def _check(self, size: int, more: int, most: int) -> None:
        if size > most:
            short = most < self._max_bytes
            raise BodyTooLargeError(
                f"the body has {size} bytes or more; the limit is {most} "
                + ("for what is no prediction" if short else "(max_body_bytes)"),
                max_body_bytes=most,
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
