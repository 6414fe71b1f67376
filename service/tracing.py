"""OpenTelemetry: a span for each request, with its decoding, queueing and computing below it.

The package is an extra (``otel``) and imported only when the setting ``tracing`` is on. Where spans
go, how many and under which name is said by the standard variables ``OTEL_*``.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, cast

from service.core.clock import Clock
from service.record import RequestRecord

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

_EXPORTERS = "opentelemetry_traces_exporter"  # entry points
_OTLP_BY_PROTOCOL = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}


class TracingError(Exception):
    """The setting ``tracing`` is on, but something that it needs is not there."""


class RequestSpans:
    """Makes a request's spans when it is over, out of times that are taken anyway. Event loop only.

    Ids are those of the request's record, so that log lines, the header ``traceparent`` and the
    spans agree. Attributes are counts, names from closed lists and ids: never images or keys.
    """

    def __init__(self, provider: TracerProvider, clock: Clock) -> None:
        self._provider = provider
        self._clock = clock
        self._ids = _GivenIds(provider.id_generator)
        provider.id_generator = cast("RandomIdGenerator", self._ids)  # as the SDK declares it
        self._tracer = provider.get_tracer("taskroute")

    def begin(self, record: RequestRecord) -> None:
        """Begin a trace where the caller has none."""
        if record.trace_id is None:
            record.trace_id = f"{random.getrandbits(128) or 1:032x}"
            record.span_id = f"{random.getrandbits(64) or 1:016x}"

    def finish(
        self,
        name: str,
        record: RequestRecord,
        headers: Mapping[str, str],
        attributes: Mapping[str, str | int],
        *,
        failed: bool,
    ) -> None:
        """The request ``name`` is over; ``headers`` may have its caller's ``traceparent``."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        self._ids.give(record)
        span = self._tracer.start_span(
            name,
            _parent(headers, record),
            SpanKind.SERVER,
            {**attributes, **_facts(record)},
            start_time=self._epoch_ns(record.started),
        )
        inside = set_span_in_context(span)
        if record.timing is not None:
            at = record.timing.began
            for stage in ("decode", "queue", "compute"):
                seconds = getattr(record.timing, stage)
                child = self._tracer.start_span(stage, inside, start_time=self._epoch_ns(at))
                at += seconds
                child.end(self._epoch_ns(at))
        if failed:
            span.set_status(Status(StatusCode.ERROR, record.code))
        span.end(self._epoch_ns(self._clock.now()))

    def close(self) -> None:
        """Send what is left. Blocks for seconds where the collector is gone."""
        self._provider.shutdown()

    def _epoch_ns(self, clock_seconds: float) -> int:
        return time.time_ns() - int((self._clock.now() - clock_seconds) * 1e9)


def request_spans(clock: Clock, version: str) -> RequestSpans:
    """Spans that go where the variables ``OTEL_*`` say.

    Raises:
        TracingError: the SDK or the exporter asked for is not installed.
    """
    try:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise TracingError(
            "tracing is on, but OpenTelemetry's SDK is not installed: pip install 'taskroute[otel]'"
        ) from None
    provider = TracerProvider(resource=_resource(version))
    for name in os.environ.get("OTEL_TRACES_EXPORTER", "otlp").split(","):
        if name.strip() != "none":
            provider.add_span_processor(BatchSpanProcessor(_exporter(name.strip())))
    return RequestSpans(provider, clock)


class _GivenIds:
    """An id generator that hands out a record's ids first; the SDK asks for a span's id once."""

    def __init__(self, rest: Any) -> None:
        self._rest = rest
        self._trace: int | None = None
        self._span: int | None = None

    def give(self, record: RequestRecord) -> None:
        self._trace = int(record.trace_id, 16) if record.trace_id else None
        self._span = int(record.span_id, 16) if record.span_id else None

    def generate_trace_id(self) -> int:
        given, self._trace = self._trace, None
        return given or int(self._rest.generate_trace_id())

    def generate_span_id(self) -> int:
        given, self._span = self._span, None
        return given or int(self._rest.generate_span_id())

    def is_trace_id_random(self) -> bool:
        return True


def _parent(headers: Mapping[str, str], record: RequestRecord) -> Context:
    from opentelemetry.context import Context
    from opentelemetry.trace import format_trace_id, get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    # Of an empty context, not the current one: a request has no other parent than its caller.
    found = TraceContextTextMapPropagator().extract(headers, Context())
    parent = get_current_span(found).get_span_context()
    # The record's trace is another one if the header was refused: one reading of it counts.
    return found if format_trace_id(parent.trace_id) == record.trace_id else Context()


def _facts(record: RequestRecord) -> dict[str, str | int]:
    found = {
        "taskroute.request_id": record.request_id,
        "taskroute.images": record.images,
        "taskroute.tasks": record.tasks,
        "taskroute.rows": record.rows,
        "taskroute.priority": record.priority,
        "taskroute.bundle": record.bundle,
        "error.type": record.code,
    }
    return {name: value for name, value in found.items() if value is not None}


def _resource(version: str) -> Resource:
    from opentelemetry.sdk.resources import Resource

    found = Resource.create()
    ours = {"service.version": version}
    if str(found.attributes.get("service.name", "unknown")).startswith("unknown"):
        ours["service.name"] = "taskroute"
    return found.merge(Resource(ours))


def _exporter(name: str) -> Any:
    if name == "otlp":
        protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get(
            "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"
        )
        name = _OTLP_BY_PROTOCOL.get(protocol, protocol)
    found = {point.name: point for point in entry_points(group=_EXPORTERS)}
    if name not in found:
        raise TracingError(
            f"OTEL_TRACES_EXPORTER asks for {name!r}, which is not installed; there are "
            f"{', '.join(sorted(found)) or 'none'} (the extra otel has OTLP over HTTP)"
        )
    return found[name].load()()
