"""The request's record, hung on the ASGI scope."""

from __future__ import annotations

from starlette.types import Scope

from service.record import RequestRecord

ACCESS_LOGGER = "service.access"
UNMATCHED = "unmatched"  # the route of requests that got to none

_KEY = "taskroute.record"
_ROUTE = "taskroute.route"


def attach_record(scope: Scope, record: RequestRecord) -> None:
    scope[_KEY] = record


def record_of(scope: Scope) -> RequestRecord:
    """The record that the outermost middleware attached."""
    record: RequestRecord = scope[_KEY]
    return record


def name_route(scope: Scope, path: str) -> None:
    """Say which route a request was for that is answered before it got there."""
    scope[_ROUTE] = path


def route_of(scope: Scope) -> str | None:
    """The template of the route that a request got to, or was for; None if nobody knows."""
    named: str | None = scope.get(_ROUTE)
    return named or getattr(scope.get("route"), "path", None)
