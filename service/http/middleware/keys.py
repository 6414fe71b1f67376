"""API keys, checked on the headers alone: of a refused request no byte of body is read."""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.core.errors import AccessError
from service.http.errors import error_response
from service.http.record import record_of
from service.key_check import check_key
from service.key_file import KeyRing, KeyScope

# Asked by machines that have no key, or files that say nothing about any model.
_OPEN = frozenset(
    {"/", "/v2/health/live", "/v2/health/ready", "/metrics", "/docs", "/openapi.json"}
)
_OPEN_FORMS = re.compile(r"/static/[^/]+|/v2/models/[^/]+(/versions/[^/]+)?/ready")
_ADMIN_PREFIXES = ("/v1/admin", "/v2/repository/models")


class Keys:
    """Lets in who has a key for the path: ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``.

    Probes, metrics and the pages are open; everything else, known or not, needs a key.
    """

    def __init__(self, app: ASGIApp, ring: KeyRing) -> None:
        self._app = app
        self._ring = ring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (needed := needed_scope(scope["path"])):
            try:
                self._check(scope, needed)
            except AccessError as error:
                record = record_of(scope)
                record.code = error.code
                await error_response(error, record.request_id)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope, needed: KeyScope) -> None:
        what = scope["path"][:200]
        check_key(self._ring, Headers(scope=scope), needed, what, record_of(scope))


def is_administration(path: str) -> bool:
    """Whether a path changes what is served."""
    return path.startswith(_ADMIN_PREFIXES)


def needed_scope(path: str) -> KeyScope | None:
    """The scope that a path needs; None where it is open to all."""
    if path in _OPEN or _OPEN_FORMS.fullmatch(path):
        return None
    return "admin" if is_administration(path) else "predict"
