"""Every request has an id: the client's, if it sent a decent one, or a new one.

Beside it a W3C trace is continued: ``traceparent`` comes back with the caller's trace and a span of
our own, and both are in the log line. No trace is begun where the caller has none.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.core.clock import Clock
from service.http.record import attach_record
from service.record import RequestRecord, decent_id
from service.trace import TRACEPARENT, continue_trace

HEADER = "X-Request-ID"


class RequestId:
    """Attaches the request's record and returns its id with the answer. Outermost."""

    def __init__(self, app: ASGIApp, clock: Clock) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = decent_id(Headers(scope=scope).get(HEADER, ""))
        record = RequestRecord(request_id, self._clock.now())
        trace = continue_trace(Headers(scope=scope).get(TRACEPARENT, ""))
        if trace is not None:
            record.trace_id, record.span_id = trace.trace_id, trace.span_id
        attach_record(scope, record)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[HEADER] = request_id
                if trace is not None:
                    headers[TRACEPARENT] = trace.header
            await send(message)

        await self._app(scope, receive, send_with_id)
