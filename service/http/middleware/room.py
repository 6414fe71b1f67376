"""Refuses what could not be answered in time by a request's headers, before anything else is done.

Under overload most requests end here, and what ends here costs the event loop a fraction of what
routing, validation and the error handlers behind it would: time that the admitted ones need.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from model.errors import TaskRouteError
from service.core.serving import ServingCore
from service.http.errors import error_response
from service.http.record import name_route, record_of
from service.http.timeout import HEADER as TIMEOUT_HEADER
from service.http.timeout import timeout_s
from service.priority import HEADER as PRIORITY_HEADER
from service.priority import header_priority
from service.settings import Settings

PREDICT = "/v1/predict"


class Room:
    """Asks for room for ``POST /v1/predict``.

    The routes of the Open Inference Protocol, whose errors have another shape, ask themselves.
    """

    def __init__(self, app: ASGIApp, core: ServingCore, settings: Settings) -> None:
        self._app = app
        self._core = core
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == PREDICT and scope["method"] == "POST":
            try:
                self._check(scope)
            except TaskRouteError as error:
                record = record_of(scope)
                record.code = error.code
                name_route(scope, PREDICT)
                await error_response(error, record.request_id)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers, settings = Headers(scope=scope), self._settings
        allowed = timeout_s(
            headers.get(TIMEOUT_HEADER),
            settings.request_timeout_ms,
            settings.max_request_timeout_ms,
        )
        priority = header_priority(headers.get(PRIORITY_HEADER))
        self._core.predictor.check_room(record_of(scope).started + allowed, priority)
