"""One log line and one count for every request."""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.core.clock import Clock
from service.http.record import ACCESS_LOGGER, UNMATCHED, record_of, route_of
from service.metrics import Metrics
from service.record import RequestRecord

logger = logging.getLogger(ACCESS_LOGGER)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Asked every few seconds by machines: counted, but logged only when something is wrong.
_QUIET_ROUTES = frozenset({"/v2/health/live", "/v2/health/ready", "/metrics"})


class Access:
    """Counts and logs requests, by route template: never by a path that a client made up."""

    def __init__(self, app: ASGIApp, clock: Clock, metrics: Metrics) -> None:
        self._app = app
        self._clock = clock
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def watching_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, watching_send)
        finally:
            self._metrics.in_flight.dec()
            self._finish(scope, record_of(scope), status)

    def _finish(self, scope: Scope, record: RequestRecord, status: int) -> None:
        route = route_of(scope) or UNMATCHED
        method = scope["method"] if scope["method"] in _METHODS else "other"
        seconds = self._clock.now() - record.started
        self._metrics.http_request(route, method, status, seconds)
        quiet = route in _QUIET_ROUTES and status < 400
        level = logging.DEBUG if quiet else logging.ERROR if status in (0, 500) else logging.INFO
        if logger.isEnabledFor(level):
            logger.log(level, "request", extra={"fields": _fields(record, scope, status, seconds)})


def _fields(record: RequestRecord, scope: Scope, status: int, seconds: float) -> dict[str, object]:
    return {
        "request_id": record.request_id,
        "method": scope["method"],
        "path": scope["path"][:200],
        "status": status,
        "duration_ms": round(seconds * 1000, 2),
        **record.fields(),
    }
