"""Counts what happens in the core and at its protocols."""

from __future__ import annotations

import asyncio

from service.core.comparison import Comparison
from service.core.decisions import Flags, Indices
from service.core.prediction import Timing
from service.core.priority import Priority
from service.core.served import ServedModel
from service.core.serving import ServingCore
from service.core.statistics import ModelStatistics
from service.core.telemetry import BatchReport
from service.metrics.declared import Declared
from service.metrics.rows import OUTCOMES, RowMetrics
from service.metrics.state import StateMetrics
from service.metrics.versions import VersionMetrics

_SHED = (
    "queue_rows",
    "queue_bytes",
    "queue_delay",
    "deadline",
    "draining",
    "displaced",
    "body_bytes",
)
_STAGES = ("read", "decode", "queue", "assemble", "forward", "respond")


class Metrics:
    """A :class:`service.core.telemetry.Telemetry`. Event loop only."""

    def __init__(self) -> None:
        self._declared = declared = Declared()
        self.statistics = ModelStatistics()  # by version, beside Prometheus' families
        self._http_requests = declared.counter("http_requests_total")
        self._http_durations = declared.histogram("http_request_duration_seconds")
        self.in_flight = declared.gauge("http_requests_in_flight")
        self._grpc_requests = declared.counter("grpc_requests_total")
        self._grpc_durations = declared.histogram("grpc_request_duration_seconds")
        self._batches = declared.counter("batches_total")
        self._batch_rows = declared.histogram("batch_rows")
        self._batch_tasks = declared.histogram("batch_tasks")
        stages = declared.histogram("stage_duration_seconds")
        self._stages = {stage: stages.labels(stage) for stage in _STAGES}
        self._shed = declared.counter("shed_total")
        self._predictions = declared.counter("predictions_total")
        self._waits = declared.histogram("prediction_queue_seconds")
        self._cancelled = declared.counter("cancelled_total")
        self._failures = declared.counter("batch_failures_total")
        self._busy = declared.counter("worker_busy_seconds_total")
        self._cache = declared.counter("cache_rows_total")
        self._load_seconds = declared.gauge("model_load_duration_seconds")
        self._loads = declared.counter("model_loads_total")
        self._rollbacks = declared.counter("model_rollbacks_total")
        self._rows = RowMetrics(declared)
        self._versions = VersionMetrics(declared)
        self._state = StateMetrics(declared)
        self._scraping = asyncio.Lock()
        self._create_bounded_children()

    # -- Telemetry --------------------------------------------------------------------------------

    def model_loaded(self, model: ServedModel) -> None:
        self._loads.labels("ok").inc()
        self._load_seconds.set(model.load_seconds)
        self._rows.model_loaded(model)

    def model_refused(self) -> None:
        self._loads.labels("refused").inc()

    def model_rolled_back(self, model: ServedModel) -> None:
        self._rollbacks.inc()

    def batch(self, report: BatchReport) -> None:
        self.statistics.batch(report)
        self._batches.labels(report.plan, report.release).inc()
        self._batch_rows.labels(report.plan).observe(report.rows)
        self._batch_tasks.labels(report.plan).observe(report.tasks)
        self._stages["assemble"].observe(report.assemble_seconds)
        self._stages["forward"].observe(report.forward_seconds)
        self._busy.inc(report.seconds)
        for kind, count in report.failures.items():
            self._failures.labels(kind).inc(count)

    def rows(self, model: ServedModel, tasks: Indices, outcome: str) -> None:
        self._rows.rows(model, tasks, outcome)

    def answers(self, model: ServedModel, tasks: Indices, said_yes: Flags) -> None:
        self._rows.answers(model, tasks, said_yes)

    def cache(self, model: ServedModel, hits: int, misses: int, seconds: float) -> None:
        self.statistics.cache(model, hits, misses, seconds)
        self._cache.labels("hit").inc(hits)
        self._cache.labels("miss").inc(misses)

    def shed(self, reason: str) -> None:
        self._shed.labels(reason).inc()

    def cancelled(self, stage: str) -> None:
        self._cancelled.labels(stage).inc()

    def stage(self, stage: str, seconds: float) -> None:
        self._stages[stage].observe(seconds)

    def answered(self, model: ServedModel, seconds: float, timing: Timing | None) -> None:
        self.statistics.request(model, seconds, timing)
        self._versions.answered(model, seconds, "failed" if timing is None else "ok")

    def request(self, priority: Priority, outcome: str, queue_seconds: float | None) -> None:
        self._predictions.labels(priority.label, outcome).inc()
        if queue_seconds is not None:
            self._waits.labels(priority.label).observe(queue_seconds)

    def compared(self, name: str, found: Comparison) -> None:
        self._versions.compared(name, found)

    # -- protocols and scraping -------------------------------------------------------------------

    def http_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request is over. ``route`` and ``method`` come from closed lists."""
        self._http_requests.labels(route, method, str(status)).inc()
        self._http_durations.labels(route).observe(seconds)

    def grpc_request(self, method: str, code: str, seconds: float) -> None:
        """One gRPC call is over. ``method`` is one of the protocol's, ``code`` one of gRPC's."""
        self._grpc_requests.labels(method, code).inc()
        self._grpc_durations.labels(method).observe(seconds)

    async def scrape(self, core: ServingCore) -> bytes:
        """The present state and all that was counted, in the text format."""
        # One at a time: the other would find gauges that were cleared and are being set again.
        async with self._scraping:
            self.observe(core)
            return await asyncio.to_thread(self.render)

    def observe(self, core: ServingCore) -> None:
        """Read the gauges that only matter when somebody looks."""
        self._state.observe(core)
        self._versions.observe(core)

    def render(self) -> bytes:
        """See :meth:`Declared.render`."""
        return self._declared.render()

    def _create_bounded_children(self) -> None:
        """Make the series that are known beforehand, or rate() would lose first events."""
        for reason in _SHED:
            self._shed.labels(reason)
        for priority in Priority:
            self._waits.labels(priority.label)
            for outcome in OUTCOMES:
                self._predictions.labels(priority.label, outcome)
        for stage in ("read", "decode", "queue", "forward"):
            self._cancelled.labels(stage)
        for kind in ("oom", "nan", "exception"):
            self._failures.labels(kind)
        for result in ("ok", "refused"):
            self._loads.labels(result)
        for result in ("hit", "miss"):
            self._cache.labels(result)
