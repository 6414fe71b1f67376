"""Prometheus metrics: every family in one table, counted in a registry of the app's own.

Base units, one prefix; histograms never carry a task, the only families by task are ``rows_total``
and ``answers_total``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from service.core.comparison import Comparison
from service.core.decisions import Flags, Indices
from service.core.prediction import Timing
from service.core.priority import Priority
from service.core.served import ServedModel
from service.core.serving import ServingCore
from service.core.statistics import ModelStatistics
from service.core.telemetry import BatchReport

PREFIX = "taskroute_"
OUTCOMES = ("ok", "error", "expired", "cancelled", "shed")
ANSWERS = ("yes", "no")
_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_DIFFERENCES = (1e-5, 1e-4, 1e-3, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class Family:
    """One metric family, as the README's table shows it."""

    name: str  # without the prefix
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: Sequence[float] = ()


FAMILIES = (
    Family(
        "http_requests_total",
        "counter",
        "Requests by route template, method and status (499: the client had gone).",
        ("route", "method", "status"),
    ),
    Family(
        "http_request_duration_seconds",
        "histogram",
        "From the request's headers to the end of the answer.",
        ("route",),
        _LATENCY,
    ),
    Family("http_requests_in_flight", "gauge", "Requests being received or answered."),
    Family(
        "grpc_requests_total",
        "counter",
        "gRPC calls by method and status.",
        ("method", "code"),
    ),
    Family(
        "grpc_request_duration_seconds",
        "histogram",
        "From the read message to the answer.",
        ("method",),
        _LATENCY,
    ),
    Family(
        "rows_total",
        "counter",
        "Rows (image x task) by model, task and outcome: ok, error, expired, cancelled, shed, and "
        "cached where there is a response cache.",
        ("model", "task", "outcome"),
    ),
    Family(
        "answers_total",
        "counter",
        "Answers to questions of yes or no: the share of yes drifts with the images.",
        ("model", "task", "answer"),
    ),
    Family(
        "batches_total",
        "counter",
        "Batches by strategy and by why they started: full, delay, idle, deadline, drain.",
        ("plan", "release"),
    ),
    Family("batch_rows", "histogram", "Rows per batch.", ("plan",), _SIZES),
    Family("batch_tasks", "histogram", "Distinct tasks per batch.", ("plan",), _SIZES),
    Family(
        "stage_duration_seconds",
        "histogram",
        "Time per request (read, decode, queue, respond) or per batch (assemble, forward).",
        ("stage",),
        _LATENCY,
    ),
    Family("queue_rows", "gauge", "Rows let in and not yet taken by the engine: scale by this."),
    Family("queue_bytes", "gauge", "Bytes of images that unanswered requests hold."),
    Family("queue_oldest_age_seconds", "gauge", "Age of the oldest request in the queue."),
    Family(
        "shed_total",
        "counter",
        "Requests refused: queue_rows, queue_bytes, queue_delay, deadline, displaced, draining, "
        "body_bytes.",
        ("reason",),
    ),
    Family(
        "predictions_total",
        "counter",
        "Prediction requests by level (interactive, bulk) and outcome: ok, error, expired, "
        "cancelled, shed.",
        ("priority", "outcome"),
    ),
    Family(
        "prediction_queue_seconds",
        "histogram",
        "Time in the queue of answered requests, by level.",
        ("priority",),
        _LATENCY,
    ),
    Family("waiting_rows", "gauge", "queue_rows by level.", ("priority",)),
    Family(
        "cancelled_total",
        "counter",
        "Requests whose client went away, by stage: read, decode, queue, forward.",
        ("stage",),
    ),
    Family(
        "batch_failures_total",
        "counter",
        "Failed attempts to run a batch: oom, nan, exception.",
        ("kind",),
    ),
    Family(
        "worker_heartbeat_timestamp_seconds", "gauge", "Last sign of life of the engine thread."
    ),
    Family("worker_busy_seconds_total", "counter", "Time that the engine spent on batches."),
    Family(
        "model_info",
        "gauge",
        "1 for each version in memory, by role: stable, canary, shadow, beside, previous.",
        ("model", "role", "version", "digest", "arch", "tasks", "dtype", "device"),
    ),
    Family(
        "model_requests_total",
        "counter",
        "Requests by the version that they were for and outcome (ok, failed); a version's series "
        "go when it leaves memory.",
        ("model", "version", "outcome"),
    ),
    Family(
        "model_request_duration_seconds",
        "histogram",
        "From decoding to the answer, by version.",
        ("model", "version"),
        _LATENCY,
    ),
    Family(
        "shadow_rows_total",
        "counter",
        "Answered rows by how they fared with the shadow version: compared, failed, incomparable "
        "(no such task there), dropped (the engine was not idle).",
        ("model", "version", "outcome"),
    ),
    Family(
        "shadow_label_flips_total",
        "counter",
        "Compared rows for which the shadow version says another label.",
        ("model", "version"),
    ),
    Family(
        "shadow_probability_difference",
        "histogram",
        "Largest difference of a class's probability, of each compared row.",
        ("model", "version"),
        _DIFFERENCES,
    ),
    Family(
        "shadow_probability_difference_max",
        "gauge",
        "The largest of them.",
        ("model", "version"),
    ),
    Family(
        "model_created_timestamp_seconds",
        "gauge",
        "When the model's version that answers was published: alert when its refresh stays away.",
        ("model",),
    ),
    Family("model_load_duration_seconds", "gauge", "Reading and building the model took so long."),
    Family("model_loads_total", "counter", "Loads by result: ok, refused.", ("result",)),
    Family("model_rollbacks_total", "counter", "Returns to the version before."),
    Family(
        "repository_read_timestamp_seconds",
        "gauge",
        "Last time that the repository could be read, of the model for which that is the longest "
        "ago: alert when it stays behind.",
    ),
    Family(
        "cuda_memory_allocated_bytes", "gauge", "Memory held by tensors on a device.", ("device",)
    ),
    Family(
        "cuda_memory_reserved_bytes", "gauge", "Memory held by the allocator.", ("device",)
    ),
    Family(
        "cache_rows_total",
        "counter",
        "Rows looked up in the response cache, by result: hit, miss.",
        ("result",),
    ),
    Family("cache_bytes", "gauge", "Memory that the response cache holds."),
    Family("cache_images", "gauge", "Images that the response cache knows answers about."),
    Family(
        "cost_fixed_seconds",
        "gauge",
        "Fitted fixed cost of a batch.",
        ("model", "version", "plan"),
    ),
    Family(
        "cost_per_row_seconds",
        "gauge",
        "Fitted cost of one row in a batch.",
        ("model", "version", "plan"),
    ),
)  # fmt: skip


SHADOW_OUTCOMES = ("compared", "failed", "incomparable", "dropped")
Version = tuple[str, str]  # the model's name, the version's number


class Metrics:
    """Counts what happens: a :class:`service.core.telemetry.Telemetry`. Event loop only."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.statistics = ModelStatistics()  # by version, beside Prometheus' families
        self._families = {family.name: family for family in FAMILIES}
        self._requests = self._counter("http_requests_total")
        self._durations = self._histogram("http_request_duration_seconds")
        self.in_flight = self._gauge("http_requests_in_flight")
        self._grpc_requests = self._counter("grpc_requests_total")
        self._grpc_durations = self._histogram("grpc_request_duration_seconds")
        self._rows = self._counter("rows_total")
        self._answers = self._counter("answers_total")
        self._batches = self._counter("batches_total")
        self._batch_rows = self._histogram("batch_rows")
        self._batch_tasks = self._histogram("batch_tasks")
        self._stages = self._histogram("stage_duration_seconds")
        self._shed = self._counter("shed_total")
        self._predictions = self._counter("predictions_total")
        self._waits = self._histogram("prediction_queue_seconds")
        self._cancelled = self._counter("cancelled_total")
        self._failures = self._counter("batch_failures_total")
        self._busy = self._counter("worker_busy_seconds_total")
        self._cache = self._counter("cache_rows_total")
        self._model_info = self._gauge("model_info")
        self._created = self._gauge("model_created_timestamp_seconds")
        self._model_requests = self._counter("model_requests_total")
        self._model_durations = self._histogram("model_request_duration_seconds")
        self._shadow_rows = self._counter("shadow_rows_total")
        self._shadow_flips = self._counter("shadow_label_flips_total")
        self._shadow_differences = self._histogram("shadow_probability_difference")
        self._shadow_max = self._gauge("shadow_probability_difference_max")
        self._load_seconds = self._gauge("model_load_duration_seconds")
        self._loads = self._counter("model_loads_total")
        self._rollbacks = self._counter("model_rollbacks_total")
        self._scraped = {
            name: self._gauge(name)
            for name in (
                "queue_rows",
                "waiting_rows",
                "queue_bytes",
                "queue_oldest_age_seconds",
                "repository_read_timestamp_seconds",
                "worker_heartbeat_timestamp_seconds",
                "cuda_memory_allocated_bytes",
                "cuda_memory_reserved_bytes",
                "cache_bytes",
                "cache_images",
                "cost_fixed_seconds",
                "cost_per_row_seconds",
            )
        }
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._counted: set[Version] = set()  # versions with series of their own
        self._loaded: set[Version] = set()  # versions in memory at the last scrape
        self._unasked = Counter("unasked", "Not exported.", registry=None)
        # By outcome or answer, then task index: to find a labelled child costs more than to count.
        self._row_children: WeakKeyDictionary[ServedModel, dict[str, list[Counter]]] = (
            WeakKeyDictionary()
        )
        self._create_bounded_children()

    # -- Telemetry --------------------------------------------------------------------------------

    def model_loaded(self, model: ServedModel) -> None:
        self._loads.labels("ok").inc()
        self._load_seconds.set(model.load_seconds)
        for name in (*OUTCOMES, *ANSWERS):
            self._children(model, name)

    def model_refused(self) -> None:
        self._loads.labels("refused").inc()

    def model_rolled_back(self, model: ServedModel) -> None:
        self._rollbacks.inc()

    def batch(self, report: BatchReport) -> None:
        self.statistics.batch(report)
        self._batches.labels(report.plan, report.release).inc()
        self._batch_rows.labels(report.plan).observe(report.rows)
        self._batch_tasks.labels(report.plan).observe(report.tasks)
        self._stage_children["assemble"].observe(report.assemble_seconds)
        self._stage_children["forward"].observe(report.forward_seconds)
        self._busy.inc(report.seconds)
        for kind, count in report.failures.items():
            self._failures.labels(kind).inc(count)

    def rows(self, model: ServedModel, tasks: Indices, outcome: str) -> None:
        children = self._children(model, outcome)
        counts = np.bincount(tasks, minlength=len(children))
        for task in np.flatnonzero(counts).tolist():
            children[task].inc(float(counts[task]))

    def answers(self, model: ServedModel, tasks: Indices, said_yes: Flags) -> None:
        for answer, chosen in (("yes", tasks[said_yes]), ("no", tasks[~said_yes])):
            counts = np.bincount(chosen, minlength=len(model.tasks))
            children = self._children(model, answer)
            for task in np.flatnonzero(counts).tolist():
                children[task].inc(float(counts[task]))

    def cache(self, model: ServedModel, hits: int, misses: int, seconds: float) -> None:
        self.statistics.cache(model, hits, misses, seconds)
        self._cache.labels("hit").inc(hits)
        self._cache.labels("miss").inc(misses)

    def shed(self, reason: str) -> None:
        self._shed.labels(reason).inc()

    def cancelled(self, stage: str) -> None:
        self._cancelled.labels(stage).inc()

    def stage(self, stage: str, seconds: float) -> None:
        self._stage_children[stage].observe(seconds)

    def answered(self, model: ServedModel, seconds: float, timing: Timing | None) -> None:
        self.statistics.request(model, seconds, timing)
        version = (model.name, str(model.version))
        self._counted.add(version)
        self._model_requests.labels(*version, "failed" if timing is None else "ok").inc()
        self._model_durations.labels(*version).observe(seconds)

    def request(self, priority: Priority, outcome: str, queue_seconds: float | None) -> None:
        self._predictions.labels(priority.label, outcome).inc()
        if queue_seconds is not None:
            self._waits.labels(priority.label).observe(queue_seconds)

    def compared(self, name: str, found: Comparison) -> None:
        version = (name, str(found.version))
        self._counted.add(version)
        counts = (len(found.differences), found.failed, found.incomparable, found.dropped)
        for outcome, count in zip(SHADOW_OUTCOMES, counts, strict=True):
            self._shadow_rows.labels(*version, outcome).inc(count)
        self._shadow_flips.labels(*version).inc(found.flips.total())
        differences = self._shadow_differences.labels(*version)
        for difference in found.differences.tolist():
            differences.observe(difference)

    # -- HTTP and scraping ------------------------------------------------------------------------

    def http_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request is over. ``route`` and ``method`` come from closed lists."""
        self._requests.labels(route, method, str(status)).inc()
        self._durations.labels(route).observe(seconds)

    def grpc_request(self, method: str, code: str, seconds: float) -> None:
        """One gRPC call is over. ``method`` is one of the protocol's, ``code`` one of gRPC's."""
        self._grpc_requests.labels(method, code).inc()
        self._grpc_durations.labels(method).observe(seconds)

    def observe(self, core: ServingCore) -> None:
        """Read the gauges that only matter when somebody looks."""
        scheduler = core.scheduler
        self._scraped["queue_rows"].set(scheduler.queue_rows)
        self._scraped["queue_bytes"].set(scheduler.queue_bytes)
        self._scraped["queue_oldest_age_seconds"].set(scheduler.oldest_age())
        for priority, rows in scheduler.waiting_rows().items():
            self._scraped["waiting_rows"].labels(priority.label).set(rows)
        if core.cache is not None:
            self._scraped["cache_bytes"].set(core.cache.bytes)
            self._scraped["cache_images"].set(len(core.cache))
        beat = time.time() - core.heartbeat.age()
        self._scraped["worker_heartbeat_timestamp_seconds"].set(beat)
        self._scraped["repository_read_timestamp_seconds"].set(core.models.read_at() or 0.0)
        self._observe_versions(core)
        for device in {model.device for versions in core.models for model in versions.loaded()}:
            if device.startswith("cuda"):
                allocated = torch.cuda.memory_allocated(device)
                reserved = torch.cuda.memory_reserved(device)
                self._scraped["cuda_memory_allocated_bytes"].labels(device).set(allocated)
                self._scraped["cuda_memory_reserved_bytes"].labels(device).set(reserved)

    def render(self) -> bytes:
        """The text format; takes milliseconds for hundreds of tasks: not on the event loop."""
        return generate_latest(self.registry)

    # -- private ----------------------------------------------------------------------------------

    def _children(self, model: ServedModel, name: str) -> list[Counter]:
        """The model's tasks' counters of one outcome or answer: all at once, or rate() would lose
        first events.
        """
        by_name = self._row_children.setdefault(model, {})
        if name not in by_name:
            by_name[name] = [
                self._rows.labels(model.name, task.name, name)
                if name not in ANSWERS
                # Of tasks with other classes the answers are not exported.
                else self._answers.labels(model.name, task.name, name)
                if task.is_binary
                else self._unasked
                for task in model.tasks
            ]
        return by_name[name]

    def _observe_versions(self, core: ServingCore) -> None:
        fixed, per_row = (
            self._scraped[name] for name in ("cost_fixed_seconds", "cost_per_row_seconds")
        )
        for gauge in (self._model_info, self._created, self._shadow_max, fixed, per_row):
            gauge.clear()
        loaded = set()
        for versions in core.models:
            if (stable := versions.stable.holder.model) is not None:
                self._created.labels(stable.name).set(stable.created_at)
            if (totals := core.shadows.totals(versions.name)) is not None:
                version = (versions.name, str(totals.version))
                self._shadow_max.labels(*version).set(totals.max_difference)
            for role, model in versions.in_memory():
                self._model_info.labels(model.name, role, *_info(model)).set(1)
            for model in versions.loaded():
                version = (model.name, str(model.version))
                loaded.add(version)
                for plan, (a, b) in core.scheduler.costs(model).items():
                    fixed.labels(*version, plan).set(a)
                    per_row.labels(*version, plan).set(b)
        # One that has just gone is shown once more, with its last requests.
        for version in self._counted - loaded - self._loaded:
            for outcome in ("ok", "failed"):
                self._model_requests.remove(*version, outcome)
            for outcome in SHADOW_OUTCOMES:
                self._shadow_rows.remove(*version, outcome)
            for family in (self._model_durations, self._shadow_flips, self._shadow_differences):
                family.remove(*version)
            self._counted.remove(version)
        self._loaded = loaded

    def _create_bounded_children(self) -> None:
        stages = ("read", "decode", "queue", "assemble", "forward", "respond")
        self._stage_children = {stage: self._stages.labels(stage) for stage in stages}
        for reason in ("queue_rows", "queue_bytes", "queue_delay", "deadline", "draining"):
            self._shed.labels(reason)
        self._shed.labels("displaced")
        self._shed.labels("body_bytes")
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

    def _counter(self, name: str) -> Counter:
        family = self._families[name]
        return Counter(PREFIX + name, family.help, family.labels, registry=self.registry)

    def _gauge(self, name: str) -> Gauge:
        family = self._families[name]
        return Gauge(PREFIX + name, family.help, family.labels, registry=self.registry)

    def _histogram(self, name: str) -> Histogram:
        family = self._families[name]
        return Histogram(
            PREFIX + name,
            family.help,
            family.labels,
            registry=self.registry,
            buckets=family.buckets,
        )


def _info(model: ServedModel) -> tuple[str, ...]:
    return (
        str(model.version),
        model.digest,
        model.config.backbone.arch,
        str(len(model.tasks)),
        model.precision,
        model.device,
    )
