"""When a batch starts, and how large it may be."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from service.core.cost import Arrivals, CostModel, pays_to_wait
from service.core.job import Job
from service.core.limits import SchedulerLimits
from service.core.served import ServedModel
from service.core.telemetry import BatchReport

# Smaller batches would spend themselves on fixed cost, whatever the cost model believes.
_ALWAYS_ALLOWED_ROWS = 32
# A batch whose fixed cost is no larger a part of it would not gain by more rows.
_SMALL_FIXED_SHARE = 0.025
_FEW_ROWS = 8


class StartRule:
    """Holds a free engine back where the fitted cost says that it pays; see the scheduler's rules.

    Not thread-safe: the scheduler's lock guards it.
    """

    def __init__(self, limits: SchedulerLimits) -> None:
        self._limits = limits
        self._arrivals = Arrivals()
        self._costs: WeakKeyDictionary[ServedModel, dict[str, CostModel]] = WeakKeyDictionary()
        self._held_since: float | None = None

    def arrived(self, now: float, rows: int) -> None:
        """A request with ``rows`` rows was let in."""
        self._arrivals.observe(now, rows)

    def ran(self, report: BatchReport) -> None:
        """A batch has run; one with a fault says nothing about the cost."""
        if not report.failures:
            self.learn(report.model, report.plan, report.rows, report.seconds)

    def nothing_waits(self) -> None:
        """What was held back has been cancelled: the next request is held for a time of its own."""
        self._held_since = None

    def learn(self, model: ServedModel, plan: str, rows: int, seconds: float) -> None:
        self._cost(model, plan).observe(rows, seconds)

    def costs(self, model: ServedModel) -> dict[str, tuple[float, float]]:
        """A version's fitted seconds per batch and per row, by strategy."""
        fitted = self._costs.get(model, {})
        return {plan: (cost.fixed, cost.per_row) for plan, cost in fitted.items()}

    def batch_rows(self, model: ServedModel, memory_rows: int) -> int:
        """Most rows of the next batch: what fits into memory, and into max_batch_duration."""
        timely = self._cost(model, model.strategy).rows_within(self._limits.max_batch_duration_s)
        if timely is None:
            return memory_rows
        return min(memory_rows, max(timely, _ALWAYS_ALLOWED_ROWS))

    def enough_rows(self, model: ServedModel) -> int | None:
        """Rows beyond which a batch only makes those wait that it has; None while unknown.

        Never very few: from batches of one size nothing could be learnt about the fixed cost.
        """
        rows = self._cost(model, model.strategy).rows_for_fixed_share(_SMALL_FIXED_SHARE)
        return None if rows is None else max(rows, _FEW_ROWS)

    def decide(self, head: Job, rows: int, limit: int, now: float, draining: bool) -> str | float:
        """Why to start now, or the seconds to hold back.

        Args:
            head: the most urgent job.
            rows: of its model, that wait.
            limit: rows of a full batch.
        """
        decision = self._decide(head, rows, limit, now, draining)
        if isinstance(decision, str):
            self._held_since = None
        return decision

    def _decide(self, head: Job, rows: int, limit: int, now: float, draining: bool) -> str | float:
        if draining:
            return "drain"
        if rows >= limit:
            return "full"
        cost = self._cost(head.model, head.model.strategy)
        longest = self._limits.max_batch_delay_s
        if longest <= 0.0 or not pays_to_wait(rows, cost, self._arrivals, now):
            return "idle"
        if self._held_since is None:
            self._held_since = now
        held = self._held_since + longest - now
        slack = head.deadline - now - cost.predict(rows)
        if held <= 0.0:
            return "delay"
        if slack <= 0.0:
            return "deadline"
        return min(held, slack)

    def _cost(self, model: ServedModel, plan: str) -> CostModel:
        return self._costs.setdefault(model, {}).setdefault(plan, CostModel())
