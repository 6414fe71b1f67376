"""Every metric family in one table: what is exported, and what the README says about it.

Base units, one prefix; histograms never carry a task, the only families by task are ``rows_total``
and ``answers_total``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

PREFIX = "taskroute_"
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
