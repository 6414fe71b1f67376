"""The first batches of a model: they pay what comes once, teach the cost model, and show faults."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import partial

import torch

from model.errors import BundleError
from model.rows import RowBatch
from service.core.clock import Clock
from service.core.scheduler import Scheduler
from service.core.served import ServedModel

# Small, so that the engine shows signs of life between them however slow the machine is.
_TASKS_AT_ONCE = 16


async def warm_up(
    model: ServedModel,
    scheduler: Scheduler,
    clock: Clock,
    seconds: float,
    max_rows: int,
    max_batch_s: float | None = None,
) -> None:
    """Run growing batches on the engine thread, between whatever else it does.

    The first run of every shape pays for memory, kernels and cut weights; the second one teaches
    the cost model. Every task is asked, as far as ``seconds`` reach: the first batch is run
    whatever it takes. With ``max_batch_s`` no batch is begun that would keep the engine from
    requests for longer.

    Raises:
        BundleError: the network answers what is not a number.
    """
    until = clock.now() + seconds
    for batch in _warm_up_batches(model, max_rows):
        for learn in (False, True):
            start = clock.now()
            call = scheduler.call(partial(_run, model, batch))
            took = await asyncio.wrap_future(call)
            if learn:
                scheduler.learn(model, len(batch), took)
            next_s = 2 * (clock.now() - start)  # the next one is twice as large
            if clock.now() + next_s >= until:
                return
        if max_batch_s is not None and len(batch.images) > 1 and 2 * took > max_batch_s:
            return


def _run(model: ServedModel, batch: RowBatch) -> float:
    start = time.perf_counter()
    logits = model.forward(batch).numpy()
    took = time.perf_counter() - start
    faulty = model.decisions.faulty_rows(batch.task_index.numpy(), logits)
    if len(faulty):
        names = {model.tasks[int(batch.task_index[row])].name for row in faulty.tolist()}
        raise BundleError(
            f"version {model.version} of {model.name!r} answers NaN or infinity for "
            f"{len(names)} tasks, {', '.join(sorted(names)[:5])} among them: its weights are bad"
        )
    return took


def _warm_up_batches(model: ServedModel, max_rows: int) -> Iterator[RowBatch]:
    count = len(model.tasks)
    for start in range(0, count, _TASKS_AT_ONCE):
        tasks = range(start, min(start + _TASKS_AT_ONCE, count))
        yield RowBatch.all_pairs(_pixels(model, 1), tasks)
    images = 2
    while images <= max_rows:
        yield RowBatch.all_pairs(_pixels(model, images), range(min(count, max_rows // images, 8)))
        images *= 2


def _pixels(model: ServedModel, images: int) -> torch.Tensor:
    spec = model.config.preprocess
    generator = torch.Generator().manual_seed(images)
    shape = (images, spec.height, spec.width, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
