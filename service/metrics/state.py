"""The core's state as gauges, read only when somebody looks."""

from __future__ import annotations

import time

import torch

from service.core.serving import ServingCore
from service.metrics.declared import Declared


class StateMetrics:
    """Queue, cache, engine, repository and accelerator."""

    def __init__(self, declared: Declared) -> None:
        self._queue_rows = declared.gauge("queue_rows")
        self._waiting_rows = declared.gauge("waiting_rows")
        self._queue_bytes = declared.gauge("queue_bytes")
        self._queue_age = declared.gauge("queue_oldest_age_seconds")
        self._cache_bytes = declared.gauge("cache_bytes")
        self._cache_images = declared.gauge("cache_images")
        self._heartbeat = declared.gauge("worker_heartbeat_timestamp_seconds")
        self._repository_read = declared.gauge("repository_read_timestamp_seconds")
        self._cuda_allocated = declared.gauge("cuda_memory_allocated_bytes")
        self._cuda_reserved = declared.gauge("cuda_memory_reserved_bytes")

    def observe(self, core: ServingCore) -> None:
        """Show the present state."""
        scheduler = core.scheduler
        self._queue_rows.set(scheduler.queue_rows)
        self._queue_bytes.set(scheduler.queue_bytes)
        self._queue_age.set(scheduler.oldest_age())
        for priority, rows in scheduler.waiting_rows().items():
            self._waiting_rows.labels(priority.label).set(rows)
        if core.cache is not None:
            self._cache_bytes.set(core.cache.bytes)
            self._cache_images.set(len(core.cache))
        self._heartbeat.set(time.time() - core.heartbeat.age())
        self._repository_read.set(core.models.read_at() or 0.0)
        for device in {model.device for versions in core.models for model in versions.loaded()}:
            if device.startswith("cuda"):
                self._cuda_allocated.labels(device).set(torch.cuda.memory_allocated(device))
                self._cuda_reserved.labels(device).set(torch.cuda.memory_reserved(device))
