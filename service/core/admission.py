"""Who is let in: bounds on rows, on bytes and on the time that a request would wait."""

from __future__ import annotations

import math
from collections import Counter

from service.core.errors import OverloadedError
from service.core.job import Job
from service.core.limits import SchedulerLimits
from service.core.priority import Priority

# A prediction is never exact, and what was let in has to drain when an overload ends: a request is
# let in if it would be answered in this share of its time.
_HEADROOM = 0.5
# Fewer waiting requests than this are a few patient callers, not an overload: only their own
# deadlines count.
_FEW_REQUESTS = 32
# A job of so few rows has them all in its turn. Only larger ones are looked at one by one: in an
# overload thousands wait, and every request that is refused would be refused more slowly.
_SMALL_ROWS = 16
MIN_RETRY_AFTER_S = 1
MAX_RETRY_AFTER_S = 60


class Throughput:
    """Rows per second over about the last twenty batches, while there is something to do.

    Between two batches that had rows waiting all the time passes, not the engine's alone: on a busy
    machine decoding, HTTP and the engine share the processor, and a queue empties that much slower.
    """

    _FORGET = 0.95

    def __init__(self) -> None:
        self._rows = 0.0
        self._seconds = 0.0
        self._backlog_since: float | None = None  # the last batch's end, if rows were waiting then

    def observe(self, rows: int, seconds: float, now: float, *, backlog: bool) -> None:
        """A batch ended ``now``; ``seconds`` are the engine's, ``backlog``: more rows wait."""
        if self._backlog_since is not None:
            seconds = max(seconds, now - self._backlog_since)
        self._backlog_since = now if backlog else None
        self._rows = self._rows * self._FORGET + rows
        self._seconds = self._seconds * self._FORGET + seconds

    @property
    def rows_per_second(self) -> float | None:
        """None before the first batch."""
        return self._rows / self._seconds if self._seconds > 0.0 else None


class LoopLag:
    """Seconds that the event loop takes to get to what is posted to it: a slow mean."""

    _NEW = 0.1

    def __init__(self) -> None:
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        self.seconds += (seconds - self.seconds) * self._NEW


class Admission:
    """Everything let in and not answered yet. Not thread-safe: the scheduler's lock guards it."""

    def __init__(self, limits: SchedulerLimits) -> None:
        self._limits = limits
        # In order of arrival, by level.
        self._jobs: dict[Priority, dict[Job, None]] = {priority: {} for priority in Priority}
        self._large: dict[Job, None] = {}  # those of them that may not get all they have at once
        self._unanswered: Counter[Priority] = Counter()  # rows
        self.rows = 0  # let in and not yet taken by the engine, images still being decoded included
        self.bytes = 0
        self.throughput = Throughput()
        self.loop_lag = LoopLag()

    def __len__(self) -> int:
        return sum(map(len, self._jobs.values()))

    @property
    def jobs(self) -> list[Job]:
        return [job for jobs in self._jobs.values() for job in jobs]

    @property
    def unanswered(self) -> int:
        """Rows let in and not yet answered: those that wait, and those in the engine."""
        return self._unanswered.total()

    def check(
        self,
        rows: int,
        size: int,
        remaining_s: float,
        fair_rows: int,
        priority: Priority = Priority.INTERACTIVE,
    ) -> list[Job]:
        """Let a request of ``rows`` rows and ``size`` bytes pass, or raise OverloadedError.

        Args:
            remaining_s: until the request's deadline.
            fair_rows: most rows of one request in a batch while others wait.

        Returns:
            The waiting bulk jobs that have to go to make room for it.
        """
        limits = self._limits
        displaced = self._displaced(rows, size) if priority is Priority.INTERACTIVE else []
        rows_left = self.rows - sum(job.pending for job in displaced)
        bytes_left = self.bytes - sum(job.bytes for job in displaced)
        if rows_left + rows > limits.max_queue_rows:
            raise self._overloaded(
                "queue_rows",
                f"the queue holds {rows_left} rows and this request has {rows}; "
                f"the limit is {limits.max_queue_rows} (max_queue_rows)",
            )
        if bytes_left + size > limits.max_queue_bytes:
            raise self._overloaded(
                "queue_bytes",
                f"waiting requests hold {bytes_left} bytes of images and this one needs {size}; "
                f"the limit is {limits.max_queue_bytes} (max_queue_bytes)",
            )
        self._check_wait(rows, remaining_s, fair_rows, priority)
        return displaced

    def add(self, job: Job) -> None:
        self._jobs[job.priority][job] = None
        if job.rows > _SMALL_ROWS:
            self._large[job] = None
        self.rows += job.rows
        self._unanswered[job.priority] += job.rows
        self.bytes += job.bytes

    def shrink(self, job: Job, rows: int, size: int) -> None:
        """``job``, still untouched, turned out to have only ``rows`` rows and ``size`` bytes."""
        self.rows -= job.rows - rows
        self._unanswered[job.priority] -= job.rows - rows
        self.bytes -= job.bytes - size
        job.rows, job.bytes = rows, size

    def took(self, rows: int) -> None:
        """The engine took ``rows`` rows."""
        self.rows -= rows

    def answered(self, job: Job, rows: int) -> None:
        """``rows`` rows of ``job`` came back from the engine."""
        job.answered += rows
        if job in self._jobs[job.priority]:
            self._unanswered[job.priority] -= rows

    def remove(self, job: Job) -> None:
        """``job`` is over; rows of it that are in the engine no longer count."""
        if job in self._jobs[job.priority]:
            del self._jobs[job.priority][job]
            self._large.pop(job, None)
            self.rows -= job.pending
            self._unanswered[job.priority] -= job.unanswered
            self.bytes -= job.bytes

    def retry_after_s(self) -> int:
        """Whole seconds until what waits now is done, within bounds."""
        rate = self.throughput.rows_per_second
        seconds = self.unanswered / rate if rate else MIN_RETRY_AFTER_S
        return min(max(math.ceil(seconds), MIN_RETRY_AFTER_S), MAX_RETRY_AFTER_S)

    def pending(self, priority: Priority) -> int:
        """Rows of one level that the engine has not taken."""
        return sum(job.pending for job in self._jobs[priority])

    def _displaced(self, rows: int, size: int) -> list[Job]:
        """Bulk jobs, the latest first, whose going makes room for ``rows`` and ``size``."""
        more_rows = self.rows + rows - self._limits.max_queue_rows
        more_bytes = self.bytes + size - self._limits.max_queue_bytes
        found: list[Job] = []
        for job in reversed(self._jobs[Priority.BULK]):
            if more_rows <= 0 and more_bytes <= 0:
                break
            if job.pending:
                found.append(job)
                more_rows -= job.pending
                more_bytes -= job.bytes
        return found

    def _check_wait(
        self, rows: int, remaining_s: float, fair_rows: int, priority: Priority
    ) -> None:
        rate = self.throughput.rows_per_second
        ahead = sum(len(jobs) for level, jobs in self._jobs.items() if level <= priority)
        if rate is None or not ahead:
            # An idle engine takes anything: also what keeps a wrong measurement from refusing for
            # ever.
            return
        delay = self._limits.max_queue_delay_s if ahead >= _FEW_REQUESTS else math.inf
        # A request waits for the event loop before it comes here, and again with its answer.
        remaining_s -= 2 * self.loop_lag.seconds
        bound = min(delay + rows / rate, _HEADROOM * remaining_s)
        if (self.unanswered + rows) / rate <= bound:
            return  # even after everything that waits
        expected = (self._rows_ahead(rows, fair_rows, priority) + rows) / rate
        if expected <= bound:
            return
        if expected > _HEADROOM * remaining_s:
            raise self._overloaded(
                "deadline",
                f"an answer is expected in {expected:.2f} s, too late for this request's deadline "
                f"in {remaining_s:.2f} s; {self.unanswered} rows wait",
            )
        raise self._overloaded(
            "queue_delay",
            f"an answer is expected in {expected:.2f} s; new requests wait at most "
            f"{self._limits.max_queue_delay_s:.2f} s (max_queue_delay_ms); "
            f"{self.unanswered} rows wait",
        )

    def _rows_ahead(self, rows: int, fair_rows: int, priority: Priority) -> int:
        """Rows that run before a new request is done: large jobs of its level take their share
        only, those of a more pressing one all they have.
        """
        turns = math.ceil(rows / fair_rows) * fair_rows
        later = sum(
            max(0, job.unanswered - turns) for job in self._large if job.priority is priority
        )
        all_rows = sum(count for level, count in self._unanswered.items() if level <= priority)
        return all_rows - later

    def _overloaded(self, reason: str, message: str) -> OverloadedError:
        retry = self.retry_after_s()
        return OverloadedError(
            f"{message}; try again in {retry} s",
            retry_after_s=retry,
            reason=reason,
            queue_rows=self.rows,
            queue_bytes=self.bytes,
        )
