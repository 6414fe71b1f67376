"""What surrounds every call: its record, its key, its log line, its count, its errors."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import grpc

from model.errors import TaskRouteError
from service.core.clock import Clock
from service.core.errors import AccessError, DeadlineError, TryLaterError
from service.grpc.codes import STATUS_BY_CODE
from service.key_check import check_key
from service.key_file import KeyRing, KeyScope
from service.metrics import Metrics
from service.record import RequestRecord, decent_id
from service.trace import TRACEPARENT, continue_trace
from service.tracing import RequestSpans

logger = logging.getLogger("service.access")

# Asked by machines that have no key.
PROBES = frozenset({"ServerLive", "ServerReady", "ModelReady"})
ADMIN = frozenset({"RepositoryModelLoad", "RepositoryModelUnload"})

Request = TypeVar("Request")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Call:
    """One call while it is answered."""

    record: RequestRecord
    metadata: Mapping[str, str]  # names in lower case; the last value of each
    deadline: float | None  # clock seconds, if the caller set one


class Calls:
    """Wraps handlers. Event loop only."""

    def __init__(
        self, clock: Clock, metrics: Metrics, keys: KeyRing | None, spans: RequestSpans | None
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._keys = keys
        self._spans = spans

    def wrap(
        self, method: str, handle: Callable[[Request, Call], Awaitable[Answer]]
    ) -> Callable[[Request, Any], Awaitable[Answer]]:
        """``handle`` as gRPC calls it."""

        async def answer(request: Request, context: Any) -> Answer:
            call = self._begin(method, context)
            status = grpc.StatusCode.UNKNOWN
            try:
                found = await handle(request, call)
                status = grpc.StatusCode.OK
                context.set_trailing_metadata((("x-request-id", call.record.request_id),))
                return found
            except asyncio.CancelledError:
                status = grpc.StatusCode.CANCELLED
                raise
            except TaskRouteError as error:
                status = STATUS_BY_CODE[error.code]
                await _refuse(context, call.record, error, status)
            except Exception:
                call.record.code, status = "internal_error", grpc.StatusCode.INTERNAL
                request_id = call.record.request_id
                logger.exception("unexpected", extra={"fields": {"request_id": request_id}})
                await context.abort(
                    status,
                    "internal error; the server's log has the details under request id "
                    f"{request_id}",
                )
                raise  # never reached: abort raises
            finally:
                self._finish(method, call, status)

        return answer

    def refusal(self, method: str, metadata: Mapping[str, str]) -> AccessError | None:
        """Why a call is not let in, judged by its metadata alone."""
        try:
            self._check(method, metadata, self._record(metadata))
        except AccessError as error:
            return error
        return None

    def refuse(self, method: str, error: AccessError) -> Callable[[Any, Any], Awaitable[None]]:
        """A handler that reads nothing of the request."""

        async def handle(_: Any, call: Call) -> None:
            raise error

        return self.wrap(method, handle)

    def _check(self, method: str, metadata: Mapping[str, str], record: RequestRecord) -> None:
        if self._keys is not None and method not in PROBES:
            needed: KeyScope = "admin" if method in ADMIN else "predict"
            check_key(self._keys, metadata, needed, method, record)

    def _begin(self, method: str, context: Any) -> Call:
        metadata = as_mapping(context.invocation_metadata())
        record = self._record(metadata)
        with contextlib.suppress(AccessError):  # judged already: this notes the key's id
            self._check(method, metadata, record)
        if self._spans is not None:
            self._spans.begin(record)
        remaining = context.time_remaining()
        deadline = None if remaining is None else record.started + remaining
        return Call(record, metadata, deadline)

    def _record(self, metadata: Mapping[str, str]) -> RequestRecord:
        record = RequestRecord(decent_id(metadata.get("x-request-id", "")), self._clock.now())
        trace = continue_trace(metadata.get(TRACEPARENT, ""))
        if trace is not None:
            record.trace_id, record.span_id = trace.trace_id, trace.span_id
        return record

    def _finish(self, method: str, call: Call, status: grpc.StatusCode) -> None:
        seconds = self._clock.now() - call.record.started
        self._metrics.grpc_request(method, status.name, seconds)
        well, probe = status is grpc.StatusCode.OK, method in PROBES
        failed = status in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
        if self._spans is not None and not probe:
            self._spans.finish(
                f"inference.GRPCInferenceService/{method}",
                call.record,
                call.metadata,
                {
                    "rpc.system": "grpc",
                    "rpc.method": method,
                    "rpc.grpc.status_code": status.value[0],
                },
                failed=failed,
            )
        level = logging.DEBUG if probe and well else logging.ERROR if failed else logging.INFO
        if logger.isEnabledFor(level):
            fields = {
                "method": method,
                "status": status.name,
                "duration_ms": round(seconds * 1000, 2),
                **call.record.fields(),
            }
            logger.log(level, "request", extra={"fields": fields})


def as_mapping(metadata: Any) -> dict[str, str]:
    """Text metadata by name; gRPC keeps the names in lower case."""
    return {name: value for name, value in metadata or () if isinstance(value, str)}


async def _refuse(
    context: Any, record: RequestRecord, error: TaskRouteError, status: grpc.StatusCode
) -> NoReturn:
    record.code = error.code
    trailing = [("x-error-code", error.code), ("x-request-id", record.request_id)]
    if isinstance(error, TryLaterError):
        trailing.append(("retry-after", str(error.retry_after_s)))
    await context.abort(status, error.message, tuple(trailing))
    raise AssertionError("abort returned")


def deadline_of(call: Call, default_s: float, max_s: float) -> float:
    """The call's deadline in clock seconds: its own, or the default; at most ``max_s`` away.

    Raises:
        DeadlineError: it has passed.
    """
    latest = call.record.started + max_s
    if call.deadline is None:
        return call.record.started + default_s
    if call.deadline <= call.record.started:
        raise DeadlineError("the deadline passed before the call was read", stage="read")
    return min(call.deadline, latest)
