"""One level's rows: jobs in order of urgency, and the rule by which a batch is cut from them."""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Iterator

from service.core.job import Job, Slice
from service.core.served import ServedModel


class RowQueue:
    """Submitted jobs that still have rows to run. Not thread-safe: the scheduler's lock guards it.

    Jobs are ordered by ``urgency``; among equals the one that came first goes first.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Job]] = []
        self._ticket: dict[Job, tuple[float, int]] = {}
        self._next_ticket = 0
        self._rows: Counter[ServedModel] = Counter()
        self._jobs: Counter[ServedModel] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Job]:
        return (job for _, _, job in self._entries)

    def rows(self, model: ServedModel) -> int:
        """Rows of ``model`` that wait."""
        return self._rows[model]

    def head(self) -> Job | None:
        """The most urgent job."""
        return self._entries[0][2] if self._entries else None

    def add(self, job: Job) -> None:
        ticket = (job.urgency, self._next_ticket)
        self._next_ticket += 1
        self._ticket[job] = ticket
        bisect.insort(self._entries, (*ticket, job))
        self._rows[job.model] += job.pending
        self._jobs[job.model] += 1

    def remove(self, job: Job) -> bool:
        """Take out all rows of ``job`` that still wait; False if none did."""
        ticket = self._ticket.pop(job, None)
        if ticket is None:
            return False
        del self._entries[bisect.bisect_left(self._entries, ticket)]
        self._rows[job.model] -= job.pending
        self._jobs[job.model] -= 1
        if not self._jobs[job.model]:  # let go of a model that was swapped out
            del self._rows[job.model], self._jobs[job.model]
        return True

    def expired(self, now: float) -> list[Job]:
        """Jobs whose deadline has passed. They lie in front: urgency is never the later one."""
        found = []
        for urgency, _, job in self._entries:
            if urgency > now:
                break
            if job.deadline <= now:
                found.append(job)
        return found

    def take(
        self, model: ServedModel, limit: int, share: float, enough: int | None = None
    ) -> list[Slice]:
        """Cut a batch of at most ``limit`` rows of ``model``.

        First round, in order: each job gets its allowance, which is ``share`` of the room while
        other jobs of the model wait, but at least one whole image. Second round: what room is left
        goes to the same jobs, in the same order. The rows of an image that fits into a batch are
        not torn apart, because what its tasks share would be computed twice: a round ends at the
        first job whose next image does not fit.

        Args:
            enough: room while other jobs wait, unless the first image needs more; None: ``limit``.
        """
        alone = self._jobs[model] == 1
        room = limit
        if enough is not None and not alone:
            room = min(limit, max(enough, next(self._of(model)).tasks_per_image))
        fair = room if alone else max(1, math.floor(share * room))
        grants: dict[Job, int] = {}
        for job in self._of(model):
            allowance = max(fair, job.tasks_per_image if job.tasks_per_image <= limit else 0)
            grants[job] = granted = _whole_images(job, 0, min(allowance, room), limit)
            room -= granted
            if room == 0 or granted == 0:
                break
        for job, granted in grants.items():
            more = _whole_images(job, granted, room, limit)
            grants[job] += more
            room -= more
        return [self._cut(job, rows) for job, rows in grants.items() if rows]

    def _of(self, model: ServedModel) -> Iterator[Job]:
        return (job for _, _, job in self._entries if job.model is model)

    def _cut(self, job: Job, rows: int) -> Slice:
        start = job.taken
        if rows == job.pending:
            self.remove(job)
        else:
            self._rows[job.model] -= rows
        job.taken = start + rows
        return Slice(job, start, job.taken)


def _whole_images(job: Job, granted: int, room: int, limit: int) -> int:
    """Further rows of ``job`` that go into ``room`` without tearing an image apart."""
    start = job.taken + granted
    stop = min(start + room, job.rows)
    if stop < job.rows and job.tasks_per_image <= limit:
        stop = job.image_start(stop)
    return max(0, stop - start)
