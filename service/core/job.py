"""A job: the rows of one request, and the slices of it that batches are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model.errors import TaskRouteError
from service.core.decisions import Indices, Logits
from service.core.priority import Priority
from service.core.served import ServedModel

Pixels = npt.NDArray[np.uint8]


@dataclass(eq=False, slots=True)
class Job:
    """One request in the scheduler: every one of its images with every one of its tasks.

    Row r asks ``tasks[r % T]`` of image ``r // T``: rows of one image lie side by side and leave in
    this order, so a job needs a cursor instead of a list, and one callback instead of one per row.
    Where some answers are known already, ``picked`` lists the rows of that grid that are left;
    every image has at least one.
    All fields belong to the scheduler and are guarded by its lock, except ``logits`` and ``errors``
    of rows that are in the engine: those belong to the engine thread until the batch ends.
    """

    model: ServedModel
    tasks: Indices  # [T] task indices in the order asked
    rows: int
    bytes: int  # memory that the request holds while it waits
    arrived: float  # clock seconds
    deadline: float
    urgency: float  # the queue's order; see service.core.scheduler
    on_done: Callable[[Job], None]  # called once, on the event loop, unless the job was withdrawn
    priority: Priority = Priority.INTERACTIVE
    images: Sequence[Pixels] = ()  # [H, W, 3] each, set when submitted
    picked: Indices | None = None  # [rows], ascending; None: all
    logits: Logits = field(default_factory=lambda: np.empty((0, 0), np.float32))
    errors: dict[int, TaskRouteError] = field(default_factory=dict)  # by row
    failure: TaskRouteError | None = None  # of the job as a whole
    taken: int = 0  # rows handed to the engine so far: the cursor
    answered: int = 0  # rows that came back, well or not
    closed: bool = False  # finished, failed or withdrawn: nothing more will be reported
    submitted: float = math.nan
    finished: float = math.nan
    compute_seconds: float = 0.0  # of the batches that its rows were in

    @property
    def tasks_per_image(self) -> int:
        return len(self.tasks)

    @property
    def pending(self) -> int:
        """Rows that the engine has not taken yet."""
        return self.rows - self.taken

    @property
    def unanswered(self) -> int:
        return self.rows - self.answered

    @property
    def stage(self) -> str:
        """Where the job is: decode, queue or forward."""
        if math.isnan(self.submitted):
            return "decode"
        return "forward" if self.taken > self.answered else "queue"

    def row_tasks(self, start: int, stop: int) -> Indices:
        """Task index of rows ``start`` to ``stop``."""
        if self._in_first_image(stop):
            return self.tasks[start:stop]
        return self.tasks[self._grid(start, stop) % len(self.tasks)]

    def row_images(self, start: int, stop: int) -> Indices:
        """Position in ``images`` of the image of rows ``start`` to ``stop``."""
        if self._in_first_image(stop):
            return np.zeros(stop - start, np.int64)
        return self._grid(start, stop) // len(self.tasks)

    def image_start(self, row: int) -> int:
        """The first row of the image that ``row`` asks about."""
        if self.picked is None:
            return row - row % len(self.tasks)
        first = int(self.picked[row]) // len(self.tasks) * len(self.tasks)
        return int(np.searchsorted(self.picked, first))

    def _in_first_image(self, stop: int) -> bool:
        """Of most requests all rows are: then there is nothing to compute."""
        return self.picked is None and stop <= len(self.tasks)

    def _grid(self, start: int, stop: int) -> Indices:
        return np.arange(start, stop) if self.picked is None else self.picked[start:stop]


class Slice(NamedTuple):
    """Rows ``start`` to ``stop`` of a job, as part of a batch."""

    job: Job
    start: int
    stop: int


def count_rows(slices: Sequence[Slice]) -> int:
    return sum(part.stop - part.start for part in slices)


def split(slices: Sequence[Slice], at: int) -> tuple[list[Slice], list[Slice]]:
    """Two halves of a batch, the first with ``at`` rows."""
    first: list[Slice] = []
    second: list[Slice] = []
    for job, start, stop in slices:
        middle = min(max(start + at, start), stop)
        at -= middle - start
        if middle > start:
            first.append(Slice(job, start, middle))
        if stop > middle:
            second.append(Slice(job, middle, stop))
    return first, second
