"""Two ports: what operators and machines ask on one, what callers ask on the other."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from service.http.errors import not_found_response
from service.http.middleware.keys import is_administration
from service.http.record import record_of

_PROBES = "/v2/health/"
_METRICS = "/metrics"


class Ports:
    """Answers 404 on the port that a path does not belong to; probes are on both."""

    def __init__(self, app: ASGIApp, admin_port: int) -> None:
        self._app = app
        self._admin_port = admin_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_here(scope):
            record = record_of(scope)
            record.code = "not_found"
            response = not_found_response(scope["path"], record.request_id)
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_here(self, scope: Scope) -> bool:
        path = scope["path"]
        if path.startswith(_PROBES):
            return True
        for_operators = is_administration(path) or path == _METRICS
        by_admin_port = scope["server"] is not None and scope["server"][1] == self._admin_port
        return bool(for_operators == by_admin_port)
