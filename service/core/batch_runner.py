"""Runs batches on the engine thread and keeps one row's fault from hurting the others."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch

from model.forward import Computing, nobody_waits
from model.rows import RowBatch
from service.core.clock import Clock
from service.core.device_memory import release_cached_memory
from service.core.errors import ForwardError, NonFiniteError, RowError, RowMemoryError
from service.core.heartbeat import Heartbeat
from service.core.job import Slice, count_rows, split
from service.core.row_limit import RowLimit
from service.core.served import ServedModel
from service.core.telemetry import BatchReport

logger = logging.getLogger(__name__)


class EngineBrokenError(Exception):
    """The model cannot even answer the row that it was warmed up with: no request is to blame."""


def assemble(slices: Sequence[Slice]) -> RowBatch:
    """The rows of ``slices`` with every distinct image once."""
    images: list[np.ndarray] = []
    image_index, task_index = [], []
    for job, start, stop in slices:
        rows = job.row_images(start, stop)
        first, last = int(rows[0]), int(rows[-1])
        image_index.append(rows + (len(images) - first))
        task_index.append(job.row_tasks(start, stop))
        images.extend(job.images[first : last + 1])
    return RowBatch(
        torch.from_numpy(np.stack(images)),
        torch.from_numpy(np.concatenate(image_index)),
        torch.from_numpy(np.concatenate(task_index)),
    )


def probe_batch(model: ServedModel) -> RowBatch:
    """One grey image with the first task: what every sound model can answer."""
    spec = model.config.preprocess
    grey = torch.full((1, spec.height, spec.width, 3), 127, dtype=torch.uint8)
    return RowBatch.all_pairs(grey, [0])


class BatchRunner:
    """Fills in logits and errors of the jobs that a batch is made of. Engine thread only."""

    def __init__(self, clock: Clock, limit: RowLimit, heartbeat: Heartbeat) -> None:
        self._clock = clock
        self._limit = limit
        self._heartbeat = heartbeat

    def run(
        self, slices: Sequence[Slice], release: str, computing: Computing = nobody_waits
    ) -> BatchReport:
        """Run one batch; afterwards each of its rows has logits or an error.

        ``computing`` is called where the forward leaves the interpreter to others.

        Raises:
            EngineBrokenError: see there; the rows have neither.
        """
        model = slices[0].job.model
        start = self._clock.now()
        batch = assemble(slices)
        assembled = self._clock.now()
        report = BatchReport(
            model,
            plan=model.strategy,
            release=release,
            rows=len(batch),
            tasks=len(torch.unique(batch.task_index)),
            images=len(batch.images),
            assemble_seconds=assembled - start,
        )
        self._attempt(model, slices, batch, report, computing)
        end = self._clock.now()
        report.forward_seconds, report.seconds = end - assembled, end - start
        if not report.failures["oom"]:
            self._limit.fitted()
        return report

    def _attempt(
        self,
        model: ServedModel,
        slices: Sequence[Slice],
        batch: RowBatch,
        report: BatchReport,
        computing: Computing = nobody_waits,
    ) -> None:
        self._heartbeat.beat()
        try:
            logits = _checked(model.forward(batch, computing), batch, model)
        except (
            Exception
        ) as error:  # whatever a model raises must reach its requests, not end the thread
            kind = "oom" if is_out_of_memory(error) else "exception"
            if not report.failures:  # the attempts that follow fail for the same reason
                logger.warning("a batch of %d rows failed (%s)", len(batch), kind, exc_info=True)
            report.failures[kind] += 1
            failure = error
        else:
            _store(slices, logits)
            self._refuse_faulty_rows(model, slices, batch, logits, report)
            return
        # Outside the except block, where the traceback would keep the failed batch's tensors alive.
        self._narrow_down(model, slices, report, kind, failure.with_traceback(None))

    def _narrow_down(
        self,
        model: ServedModel,
        slices: Sequence[Slice],
        report: BatchReport,
        kind: str,
        failure: Exception,
    ) -> None:
        rows = count_rows(slices)
        if kind == "oom":
            self._limit.out_of_memory(rows)
            release_cached_memory()
        if kind == "exception" or rows == 1:
            self._probe(model, failure)
        if rows == 1:
            job, row, _ = slices[0]
            job.errors[row] = _row_error(kind, model, int(job.row_tasks(row, row + 1)[0]))
            return
        for half in split(slices, rows // 2):
            waited_for = [part for part in half if not part.job.closed]
            if waited_for:
                self._attempt(model, waited_for, assemble(waited_for), report)

    def _probe(self, model: ServedModel, failure: Exception) -> None:
        """Tell a guilty row from a broken engine."""
        batch = probe_batch(model)
        try:
            _checked(model.forward(batch), batch, model)
        except Exception as error:
            raise EngineBrokenError(
                f"a batch failed with {failure!r}, and so did the probe row: {error!r}"
            ) from error

    def _refuse_faulty_rows(
        self,
        model: ServedModel,
        slices: Sequence[Slice],
        batch: RowBatch,
        logits: np.ndarray,
        report: BatchReport,
    ) -> None:
        faulty = model.decisions.faulty_rows(batch.task_index.numpy(), logits)
        if not len(faulty):
            return
        report.failures["nan"] += 1
        at = 0
        for job, start, stop in slices:
            inside = faulty[(at <= faulty) & (faulty < at + stop - start)]
            for row in (inside - at + start).tolist():
                job.logits[row] = np.nan  # infinity would make later arithmetic complain
                task = model.tasks[int(job.row_tasks(row, row + 1)[0])].name
                job.errors[row] = NonFiniteError(
                    f"the network's answer for task {task!r} is not a number; version "
                    f"{model.version} of {model.name!r} may be damaged: check its held-out figures "
                    "or go back a version",
                    task=task,
                )
            at += stop - start


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an accelerator or the host refused memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # The CPU allocator raises a plain RuntimeError.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _checked(logits: torch.Tensor, batch: RowBatch, model: ServedModel) -> np.ndarray:
    expected = (len(batch), model.max_outputs)
    if tuple(logits.shape) != expected:
        raise ValueError(
            f"strategy {model.strategy!r} answered shape {tuple(logits.shape)}, expected {expected}"
        )
    found: np.ndarray = logits.numpy()
    return found


def _store(slices: Sequence[Slice], logits: np.ndarray) -> None:
    at = 0
    for job, start, stop in slices:
        job.logits[start:stop] = logits[at : at + stop - start]
        at += stop - start


def _row_error(kind: str, model: ServedModel, task: int) -> RowError:
    name = model.tasks[task].name
    if kind == "oom":
        return RowMemoryError(
            f"out of memory for a single row (task {name!r}); give the process more memory",
            task=name,
        )
    return ForwardError(
        f"the network failed for task {name!r} on this image; the log has the reason under the "
        "request's time",
        task=name,
    )
