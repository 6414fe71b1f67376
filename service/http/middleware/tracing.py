"""A span for every request that is not a machine's probe."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.record import record_of, route_of
from service.tracing import RequestSpans

_NOT_TRACED = frozenset({"/v2/health/live", "/v2/health/ready", "/metrics"})


class Tracing:
    """Tells the spans what became of each request; installed only where tracing is on."""

    def __init__(self, app: ASGIApp, spans: RequestSpans) -> None:
        self._app = app
        self._spans = spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _NOT_TRACED:
            await self._app(scope, receive, send)
            return
        record = record_of(scope)
        self._spans.begin(record)
        status = 0

        async def watching_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watching_send)
        finally:
            # The template, as in the metrics: a path may be anything.
            route = route_of(scope)
            attributes = {"http.request.method": scope["method"]}
            if route is not None:
                attributes["http.route"] = route
            self._spans.finish(
                f"{scope['method']} {route}" if route else scope["method"],
                record,
                Headers(scope=scope),
                {**attributes, "http.response.status_code": status},
                failed=status in (0, *range(500, 600)),
            )
