"""What the core reports about itself; ``service.metrics`` counts it, tests record it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from service.core.comparison import Comparison
from service.core.decisions import Flags, Indices
from service.core.prediction import Timing
from service.core.priority import Priority
from service.core.served import ServedModel


@dataclass(slots=True)
class BatchReport:
    """One batch as the engine ran it."""

    model: ServedModel
    plan: str  # the strategy it ran by
    release: str  # why it started: full, delay, idle, deadline or drain
    rows: int
    tasks: int  # distinct ones
    images: int  # distinct ones
    assemble_seconds: float = 0.0
    forward_seconds: float = 0.0
    seconds: float = 0.0  # all the engine's time, repeated attempts included
    failures: Counter[str] = field(default_factory=Counter)  # by kind: oom, nan, exception


class Telemetry(Protocol):
    """Called on the event loop only."""

    def model_loaded(self, model: ServedModel) -> None:
        """Read, checked and warm."""
        ...

    def model_refused(self) -> None: ...

    def model_rolled_back(self, model: ServedModel) -> None:
        """It answers again, because the one after it was given up."""
        ...

    def batch(self, report: BatchReport) -> None: ...

    def rows(self, model: ServedModel, tasks: Indices, outcome: str) -> None:
        """Rows came to an end: ok, error, expired, cancelled, shed or cached; ``tasks`` per row."""
        ...

    def cache(self, model: ServedModel, hits: int, misses: int, seconds: float) -> None:
        """A request's rows were looked up in the response cache, which took so long."""
        ...

    def answers(self, model: ServedModel, tasks: Indices, said_yes: Flags) -> None:
        """Questions of yes or no were answered; task and answer per row."""
        ...

    def shed(self, reason: str) -> None: ...

    def cancelled(self, stage: str) -> None: ...

    def stage(self, stage: str, seconds: float) -> None: ...

    def answered(self, model: ServedModel, seconds: float, timing: Timing | None) -> None:
        """A request is over: answered, or failed without a ``timing``; cancelled ones are not."""
        ...

    def compared(self, name: str, found: Comparison) -> None:
        """Rows of model ``name`` were compared with its shadow version, or could not be."""
        ...

    def request(self, priority: Priority, outcome: str, queue_seconds: float | None) -> None:
        """A request of a level is over: ok, error, expired, cancelled or shed; it waited so long
        in the queue, if it was answered.
        """
        ...
