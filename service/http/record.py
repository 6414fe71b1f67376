"""The request's record, hung on the ASGI scope."""

from __future__ import annotations

from starlette.types import Scope

from service.record import RequestRecord

ACCESS_LOGGER = "service.access"
UNMATCHED = "unmatched"  # the route of requests that got to none

_KEY = "taskroute.record"


def attach_record(scope: Scope, record: RequestRecord) -> None:
    scope[_KEY] = record


def record_of(scope: Scope) -> RequestRecord:
    """The record that the outermost middleware attached."""
    record: RequestRecord = scope[_KEY]
    return record
