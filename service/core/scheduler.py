"""The scheduler: between requests on the event loop and batches on the engine thread.

Every rule of concurrency in the service is here, a sentence each;
``tests/service/core/test_rules.py`` has one test for each, named after it.

Ownership
    1. The engine thread alone runs the model.
    2. The event loop alone hears that a job is done: callbacks and telemetry are posted to it.
    3. One lock guards the queue and every job in it, and it is never held while the model runs.

Admission
    4. A request is let in whole or refused whole, before its images are decoded; before its body is
       read, where not even one row would be let in.
    5. The rows let in and not yet taken never exceed max_queue_rows, the bytes of unanswered
       requests never exceed max_queue_bytes.
    6. A request that would be answered too late is refused at once, unless nothing else waits.
    7. A refused request is told when to come back: the rows that wait, over the rows per second
       measured.

Order
    8. Jobs leave by urgency, which is arrival + min(time to the deadline, ageing): the earliest
       deadline first, but nobody is overtaken by requests that arrive more than the ageing time
       after it.
    9. Among equally urgent jobs the one that came first goes first; the task never matters, so no
       task can starve or monopolise the engine.
    10. While others wait a job gets at most its share of a batch, or one image; room that nobody
        else uses is its own.
    11. A batch has rows of one served model only, the most urgent job's.
    12. An image is in a batch once, however many of its rows are; a job larger than a batch is
        spread over several.

Start
    13. A free engine starts at once, unless the cost model says that waiting for the next request
        pays.
    14. It never waits longer than max_batch_delay, past a deadline, for a full batch, or while
        draining.
    15. No batch is planned to last longer than max_batch_duration, but 32 rows are always allowed.
    16. Of many requests a batch takes no more than make its fixed cost a fortieth of it, eight
        rows at least: what it has is answered sooner, while others are decoded.

Cancellation
    17. Cancelling removes a job's waiting rows at once; rows in the engine run on and are thrown
        away.

Deadlines
    18. No row is run after its job's deadline: the job is answered deadline_exceeded when the
        engine gets to it.

Exceptions
    19. A batch that fails is halved until the guilty rows are alone: they get the error, all others
        their answers.
    20. If the probe row fails too, no row is guilty: the engine is broken and stops.
    21. Out of memory halves the batch limit, which grows back slowly; the rows are run again in
        halves.
    22. A row whose logits are not finite gets an error, its batch-mates get their answers.

Engine
    23. A dead engine fails every waiting job at once with engine_down, and new ones are refused.
    24. A hung engine does the same; when it comes back its late results are thrown away and service
        resumes. Within a call it has ten times as long until the process counts as lost.

Shutdown
    25. While draining new requests are refused, those let in are answered, and nothing waits for a
        fuller batch.
    26. What is unanswered when the drain time is over gets draining.
    27. After close the engine ends behind the batch it is running.

Priority
    28. A batch has rows of one level only, interactive or bulk; the rules of order and of start
        hold within a level.
    29. Bulk rows run while no interactive ones wait: an interactive job waits for one batch of bulk
        at most, as long as it waits less than bulk_interval.
    30. Bulk rows never starve: passed over for bulk_interval, they get the next batch, and no more.
    31. An interactive request that finds the queue full takes the room of waiting bulk requests,
        the latest first; those are told when to come back.
    32. Bulk rows do not count in the time that an interactive request is expected to wait.

Idle work
    33. A call for idle times runs only while no request is let in and unanswered: one that comes
        meanwhile waits for the call that is running, and for no other.
    34. While draining none is begun, and a dead engine fails them.

Answers
    35. The answers of a batch are handed over when the next one no longer needs the interpreter, at
        once where none is begun: rendering them must not keep the engine from its work.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import numpy as np

from model.errors import TaskRouteError
from service.core.admission import Admission
from service.core.clock import Clock
from service.core.decisions import Indices
from service.core.engine import HEARTBEAT_S, Action, Call, Run, Sleep, Stop
from service.core.errors import (
    DeadlineError,
    DrainingError,
    EngineDownError,
    OverloadedError,
    TooManyRowsError,
)
from service.core.job import Job, Pixels, Slice, count_rows
from service.core.lanes import Lanes
from service.core.limits import SchedulerLimits
from service.core.outcomes import outcomes
from service.core.priority import Priority
from service.core.row_limit import RowLimit
from service.core.served import ServedModel
from service.core.start_rule import StartRule
from service.core.telemetry import BatchReport, Telemetry

logger = logging.getLogger(__name__)

_DRAINING_RETRY_S = 1
_ENGINE_DOWN_RETRY_S = 5

Result = TypeVar("Result")
Post = Callable[..., object]


class Scheduler:
    """Lets requests in, cuts batches for the engine, hands answers back. See the module's rules.

    ``post(function, *arguments)`` runs a function on the event loop, from any thread.
    """

    def __init__(
        self, limits: SchedulerLimits, clock: Clock, telemetry: Telemetry, post: Post
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._telemetry = telemetry
        self._post_to_loop = post
        self.row_limit = RowLimit(limits.max_batch_rows)
        self._changed = threading.Condition()
        self._changes = 0  # counts what the engine might have to react to
        self._seen = 0
        self._queue = Lanes(limits.bulk_interval_s)
        self._admission = Admission(limits)
        self._start_rule = StartRule(limits)
        self._calls: deque[Call] = deque()
        self._idle_calls: deque[Call] = deque()
        # What the engine has completed and not handed over; the engine thread's alone.
        self._completed: deque[tuple[BatchReport, list[Slice], list[Job]]] = deque()
        self._fair_rows = self._share_of(limits.max_batch_rows)
        self._down: str | None = None  # why the engine cannot answer
        self._dead = False  # and never will
        self._draining = False
        self._closed = False

    # -- called on the event loop -----------------------------------------------------------------

    def admit(
        self,
        model: ServedModel,
        tasks: Indices,
        images: int,
        encoded_bytes: int,
        deadline: float,
        on_done: Callable[[Job], None],
        priority: Priority = Priority.INTERACTIVE,
    ) -> Job:
        """Let in a request for ``images`` images and ``tasks``, before they are decoded.

        What is let in must be submitted or withdrawn.

        Raises:
            DrainingError, EngineDownError: nobody is let in now.
            TooManyRowsError: never fits.
            OverloadedError: does not fit now.
        """
        now = self._clock.now()
        rows = len(tasks) * images
        size = encoded_bytes + images * model.image_bytes
        try:
            with self._changed:
                self._check_open()
                self._check_size(rows, len(tasks), images)
                displaced = self._admission.check(
                    rows, size, deadline - now, self._fair_rows, priority
                )
                urgency = now + min(deadline - now, self._limits.ageing_s)
                job = Job(model, tasks, rows, size, now, deadline, urgency, on_done, priority)
                self._displace(displaced)
                self._admission.add(job)
                self._start_rule.arrived(now, rows)
        except (OverloadedError, DrainingError) as error:
            self._telemetry.shed(error.details.get("reason", error.code))
            self._telemetry.rows(model, np.tile(tasks, images), "shed")
            raise
        for other in displaced:
            self._telemetry.shed("displaced")
            self._tell(other, "shed")
        return job

    def check_room(self, deadline: float, priority: Priority = Priority.INTERACTIVE) -> None:
        """Refuse a request of unknown size if not even one row would be answered by ``deadline``.

        Raises:
            DrainingError, EngineDownError, OverloadedError: as :meth:`admit` would.
        """
        try:
            with self._changed:
                self._check_open()
                remaining = deadline - self._clock.now()
                self._admission.check(1, 0, remaining, self._fair_rows, priority)
        except (OverloadedError, DrainingError) as error:
            self._telemetry.shed(error.details.get("reason", error.code))
            raise

    def submit(self, job: Job, images: Sequence[Pixels], picked: Indices | None = None) -> None:
        """Queue the images of an admitted job: all of them, or those that could be decoded.

        ``picked`` are the rows of them to run, if not all; every image has one. Without any images
        the job is over, and nothing is called.
        """
        rows = len(images) * job.tasks_per_image if picked is None else len(picked)
        with self._changed:
            if job.closed:  # the engine died, or the drain ended, meanwhile: already reported
                return
            self._admission.shrink(job, rows, len(images) * job.model.image_bytes)
            job.images, job.picked = images, picked
            job.logits = np.full((rows, job.model.max_outputs), np.nan, np.float32)
            job.submitted = self._clock.now()
            if not images:
                self._close(job)
                return
            self._queue.add(job)
            self._wake()

    def withdraw(self, job: Job, outcome: str) -> bool:
        """Take ``job`` out, as ``cancelled`` or ``expired``; False if it was over already."""
        with self._changed:
            if job.closed:
                return False
            tasks = job.row_tasks(job.answered, job.rows)
            self._close(job)
        self._telemetry.rows(job.model, tasks, outcome)
        return True

    def call(self, function: Callable[[], Result]) -> Future[Result]:
        """Run ``function`` on the engine thread between two batches."""
        return self._add_call(function, self._calls)

    def call_when_idle(self, function: Callable[[], Result]) -> Future[Result]:
        """Run ``function`` on the engine thread once nobody waits for an answer, if ever."""
        return self._add_call(function, self._idle_calls)

    def learn(self, model: ServedModel, rows: int, seconds: float) -> None:
        """Teach the cost model a batch that was run elsewhere: the warm-up's."""
        with self._changed:
            self._start_rule.learn(model, model.strategy, rows, seconds)

    def drain(self) -> None:
        """Refuse new requests and go on answering those that were let in."""
        with self._changed:
            self._draining = True
            self._wake()

    def end_drain(self) -> None:
        """The drain time is over: answer whatever is left ``draining``."""
        error = DrainingError(
            "the server is shutting down and its drain time is over; try again on another replica",
            retry_after_s=_DRAINING_RETRY_S,
        )
        self._fail_all(error, "shed")

    def close(self) -> None:
        """Let the engine thread end."""
        with self._changed:
            self._closed = True
            self._wake()
        self.end_drain()

    def engine_back(self) -> None:
        """The engine, thought hung, moves again."""
        with self._changed:
            if not self._dead:
                self._down = None

    # -- called from any thread -------------------------------------------------------------------

    def engine_lost(self, reason: str) -> None:
        """The engine died: nobody is to wait for it any longer."""
        with self._changed:
            if self._dead:
                return
            self._down, self._dead = reason, True
            calls = [*self._calls, *self._idle_calls]
            self._calls.clear()
            self._idle_calls.clear()
            error = self._engine_down()
        for call in calls:
            if call.future.set_running_or_notify_cancel():
                call.future.set_exception(error)
        self._fail_all(error, "error")

    def engine_hangs(self, reason: str) -> None:
        """The engine may come back, but no request is to wait for that. Calls do."""
        with self._changed:
            if self._down is not None:
                return
            self._down = reason
        self._fail_all(self._engine_down(), "error")

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def engine_down(self) -> str | None:
        """Why the engine cannot answer; None if it can."""
        return self._down

    @property
    def queue_rows(self) -> int:
        """Rows let in and not yet taken by the engine."""
        return self._admission.rows

    def waiting_rows(self) -> dict[Priority, int]:
        """The same by level."""
        with self._changed:
            return {priority: self._admission.pending(priority) for priority in Priority}

    @property
    def queue_bytes(self) -> int:
        return self._admission.bytes

    @property
    def unanswered_requests(self) -> int:
        return len(self._admission)

    @property
    def rows_per_second(self) -> float | None:
        """Measured over the last batches; None before the first."""
        return self._admission.throughput.rows_per_second

    def oldest_age(self) -> float:
        """Seconds that the longest waiting job has been in the queue."""
        with self._changed:
            now = self._clock.now()
            return max((now - job.arrived for job in self._queue), default=0.0)

    def costs(self, model: ServedModel) -> dict[str, tuple[float, float]]:
        """A version's fitted seconds per batch and per row, by strategy."""
        with self._changed:
            return self._start_rule.costs(model)

    # -- called on the engine thread --------------------------------------------------------------

    def next_action(self, now: float) -> Action:
        """What the engine does next."""
        with self._changed:
            self._seen = self._changes
            expired = self._expire(now)
            action = self._choose(now)
        for job in expired:
            self._tell(job, "expired")
        return action

    def wait(self, seconds: float) -> None:
        """Block until something changed since the last :meth:`next_action`, at most ``seconds``."""
        with self._changed:
            self._changed.wait_for(lambda: self._changes != self._seen, seconds)

    def complete(self, slices: Sequence[Slice], report: BatchReport) -> None:
        """A batch has run: every row of it has logits or an error."""
        with self._changed:
            now = self._clock.now()
            self._admission.throughput.observe(
                report.rows, report.seconds, now, backlog=len(self._queue) > 0
            )
            self._start_rule.ran(report)
            live = [part for part in slices if not part.job.closed]
            for job, start, stop in slices:
                self._admission.answered(job, stop - start)
            done = []
            for job, _, _ in live:
                job.compute_seconds += report.seconds
                if job.answered == job.rows:
                    job.finished = now
                    self._close(job)
                    done.append(job)
        self._completed.append((report, live, done))

    def hand_over(self) -> None:
        """Tell the event loop of the batches that are complete, if it has not been told."""
        while self._completed:
            self._post(self._report, *self._completed.popleft(), self._clock.now())

    # -- private; the lock is held unless said otherwise ------------------------------------------

    def _choose(self, now: float) -> Action:
        if self._calls:
            return self._calls.popleft()
        if self._closed:
            return Stop()
        lane = self._queue.next(now)
        head = lane.head()
        if head is None:
            self._start_rule.nothing_waits()
            if self._idle_calls and not len(self._admission) and not self._draining:
                return self._idle_calls.popleft()
            return Sleep(HEARTBEAT_S)
        limit = self._start_rule.batch_rows(head.model, self.row_limit.rows)
        self._fair_rows = self._share_of(limit)
        waiting = lane.rows(head.model)
        decision = self._start_rule.decide(head, waiting, limit, now, self._draining)
        if isinstance(decision, float):
            return Sleep(min(decision, HEARTBEAT_S))
        enough = self._start_rule.enough_rows(head.model)
        slices = lane.take(head.model, limit, self._limits.max_request_share, enough)
        self._queue.took(lane)
        self._admission.took(count_rows(slices))
        return Run(slices, decision)

    def _share_of(self, limit: int) -> int:
        return max(1, math.floor(self._limits.max_request_share * limit))

    def _expire(self, now: float) -> list[Job]:
        expired = self._queue.expired(now)
        for job in expired:
            job.failure = DeadlineError(
                f"the deadline passed after {now - job.arrived:.3f} s in the queue, before "
                f"{job.pending} of {job.rows} rows were run; allow more time or ask for fewer rows",
                stage="queue",
            )
            self._close(job)
        return expired

    def _close(self, job: Job) -> None:
        job.closed = True
        self._queue.remove(job)
        self._admission.remove(job)

    def _displace(self, jobs: Sequence[Job]) -> None:
        retry = self._admission.retry_after_s()
        for job in jobs:
            job.failure = OverloadedError(
                f"interactive requests took this bulk request's place in a full queue of "
                f"{self._limits.max_queue_rows} rows (max_queue_rows, max_queue_bytes); "
                f"try again in {retry} s",
                retry_after_s=retry,
                reason="displaced",
            )
            self._close(job)

    def _check_open(self) -> None:
        if self._draining or self._closed:
            raise DrainingError(
                "the server is shutting down; try again on another replica",
                retry_after_s=_DRAINING_RETRY_S,
            )
        if self._down is not None:
            raise self._engine_down()

    def _check_size(self, rows: int, tasks: int, images: int) -> None:
        if rows > self._limits.max_queue_rows:
            raise TooManyRowsError(
                f"{images} images with {tasks} tasks are {rows} rows; one request may have at most "
                f"{self._limits.max_queue_rows} (max_queue_rows): send fewer images at a time",
                rows=rows,
                max_queue_rows=self._limits.max_queue_rows,
            )

    def _engine_down(self) -> EngineDownError:
        return EngineDownError(
            f"the engine cannot answer: {self._down or 'it was closed'}",
            retry_after_s=_ENGINE_DOWN_RETRY_S,
        )

    def _wake(self) -> None:
        self._changes += 1
        self._changed.notify()

    # -- private, without the lock ----------------------------------------------------------------

    def _add_call(self, function: Callable[[], Result], calls: deque[Call]) -> Future[Result]:
        future: Future[Result] = Future()
        with self._changed:
            if self._dead or self._closed:
                future.set_exception(self._engine_down())
            else:
                calls.append(Call(function, future))
                self._wake()
        return future

    def _fail_all(self, error: TaskRouteError, outcome: str) -> None:
        with self._changed:
            jobs = self._admission.jobs
            for job in jobs:
                job.failure = error
                self._close(job)
        for job in jobs:
            self._tell(job, outcome)

    def _tell(self, job: Job, outcome: str) -> None:
        """``job`` is over with rows unanswered."""
        tasks = job.row_tasks(job.answered, job.rows)
        self._post(self._telemetry.rows, job.model, tasks, outcome)
        self._post(job.on_done, job)

    def _report(
        self, report: BatchReport, live: Sequence[Slice], done: Iterable[Job], posted: float
    ) -> None:
        """On the event loop: callers first, then the books."""
        with self._changed:
            self._admission.loop_lag.observe(self._clock.now() - posted)
        for job in done:
            job.on_done(job)
        self._telemetry.batch(report)
        for outcome, tasks in outcomes(live).items():
            self._telemetry.rows(report.model, tasks, outcome)

    def _post(self, function: Callable[..., Any], *arguments: Any) -> None:
        try:
            self._post_to_loop(function, *arguments)
        except RuntimeError:  # the event loop is closed: nobody is left to hear of it
            logger.debug("a result came after the event loop had closed")
