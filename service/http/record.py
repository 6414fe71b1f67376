"""What is known about one HTTP request while it is handled: the source of its log line."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import Scope

ACCESS_LOGGER = "service.access"
UNMATCHED = "unmatched"  # the route of requests that got to none

_KEY = "taskroute.record"


@dataclass(slots=True)
class RequestRecord:
    """Filled in by whoever knows; read by the access log when the request is over."""

    request_id: str
    started: float  # clock seconds
    images: int | None = None
    tasks: int | None = None
    priority: str | None = None  # if not the usual level
    decode_ms: float | None = None
    queue_ms: float | None = None
    compute_ms: float | None = None
    bundle: str | None = None  # digest of the model that answered
    code: str | None = None  # of the error, if any
    key: str | None = None  # id of the API key, which is no secret
    trace_id: str | None = None  # of the caller's trace, if it sent one
    span_id: str | None = None  # of this request in it


def attach_record(scope: Scope, record: RequestRecord) -> None:
    scope[_KEY] = record


def record_of(scope: Scope) -> RequestRecord:
    """The record that the outermost middleware attached."""
    record: RequestRecord = scope[_KEY]
    return record
