"""A queue for each priority level, and the rule by which the engine turns to one of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from service.core.job import Job
from service.core.priority import Priority
from service.core.row_queue import RowQueue


class Lanes:
    """Interactive rows first; bulk when none wait, or when it was passed over for long enough.

    Not thread-safe: the scheduler's lock guards it.

    Args:
        bulk_interval_s: once bulk rows waited this long without a batch of theirs, they get one.
    """

    def __init__(self, bulk_interval_s: float) -> None:
        self._bulk_interval_s = bulk_interval_s
        self._lanes = {priority: RowQueue() for priority in Priority}
        self._passed_over_since: float | None = None

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def __iter__(self) -> Iterator[Job]:
        return chain(*self._lanes.values())

    def add(self, job: Job) -> None:
        self._lanes[job.priority].add(job)

    def remove(self, job: Job) -> bool:
        """Take out all rows of ``job`` that still wait; False if none did."""
        return self._lanes[job.priority].remove(job)

    def expired(self, now: float) -> list[Job]:
        """Jobs whose deadline has passed."""
        return [job for lane in self._lanes.values() for job in lane.expired(now)]

    def next(self, now: float) -> RowQueue:
        """The level whose turn it is; its queue is empty only if all are."""
        interactive, bulk = self._lanes[Priority.INTERACTIVE], self._lanes[Priority.BULK]
        if not (len(interactive) and len(bulk)):
            # Bulk has the engine, or does not want it: nobody is passed over.
            self._passed_over_since = None
            return interactive if len(interactive) else bulk
        if self._passed_over_since is None:
            self._passed_over_since = now
        overdue = now - self._passed_over_since >= self._bulk_interval_s
        return bulk if overdue else interactive

    def took(self, lane: RowQueue) -> None:
        """A batch was cut from ``lane``."""
        if lane is self._lanes[Priority.BULK]:
            self._passed_over_since = None
