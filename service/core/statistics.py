"""Totals of each served version since the process started: how many, and how long in all."""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field

from service.core.prediction import Timing
from service.core.served import ServedModel
from service.core.telemetry import BatchReport

# A few hundred numbers each: where a model is refreshed every few minutes, months would add up.
MOST_VERSIONS = 200


@dataclass(slots=True)
class Total:
    """A count and the time that was counted."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        self.count += count
        self.seconds += seconds


@dataclass(slots=True)
class BatchTotals:
    """All batches of one size."""

    assemble: Total = field(default_factory=Total)
    forward: Total = field(default_factory=Total)


@dataclass(slots=True)
class ModelTotals:
    """What one version of one model did."""

    name: str
    version: int
    rows: int = 0  # that the engine answered
    batches: int = 0
    last_request: float = 0.0  # seconds since the epoch; 0 before the first
    success: Total = field(default_factory=Total)
    failure: Total = field(default_factory=Total)
    decode: Total = field(default_factory=Total)
    queue: Total = field(default_factory=Total)
    compute: Total = field(default_factory=Total)
    cache_hit: Total = field(default_factory=Total)  # rows
    cache_miss: Total = field(default_factory=Total)
    by_size: dict[int, BatchTotals] = field(default_factory=lambda: defaultdict(BatchTotals))


class ModelStatistics:
    """The totals by version. Event loop only.

    Versions that are no longer served keep theirs, the last :data:`MOST_VERSIONS` of them.
    """

    def __init__(self) -> None:
        self._models: OrderedDict[tuple[str, int], ModelTotals] = OrderedDict()  # by last use

    def of(self, model: ServedModel) -> ModelTotals:
        """The totals of ``model``, all zero before its first request."""
        key = (model.name, model.version)
        if key in self._models:
            self._models.move_to_end(key)
            return self._models[key]
        if len(self._models) == MOST_VERSIONS:
            self._models.popitem(last=False)
        self._models[key] = ModelTotals(model.name, model.version)
        return self._models[key]

    def all(self) -> list[ModelTotals]:
        """Every version that was served, by name and version."""
        return [self._models[key] for key in sorted(self._models)]

    def batch(self, report: BatchReport) -> None:
        """The engine ran a batch."""
        totals = self.of(report.model)
        totals.batches += 1
        totals.rows += report.rows
        sizes = totals.by_size[report.rows]
        sizes.assemble.add(report.assemble_seconds)
        sizes.forward.add(report.forward_seconds)

    def cache(self, model: ServedModel, hits: int, misses: int, seconds: float) -> None:
        """Rows were looked up in the response cache; the time is shared out among them."""
        totals, each = self.of(model), seconds / (hits + misses)
        totals.cache_hit.add(each * hits, hits)
        totals.cache_miss.add(each * misses, misses)

    def request(self, model: ServedModel, seconds: float, timing: Timing | None) -> None:
        """A request was answered, or failed if it has no ``timing``; it took ``seconds``."""
        totals = self.of(model)
        totals.last_request = time.time()
        if timing is None:
            totals.failure.add(seconds)
            return
        totals.success.add(seconds)
        totals.decode.add(timing.decode)
        totals.queue.add(timing.queue)
        totals.compute.add(timing.compute)
