"""From a bundle in the repository to a model that is warm and sound."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch

from model.errors import BundleError, ConfigError, TaskRouteError
from model.repository import Repository
from model.rows import RowBatch
from model.self_check import largest_probability_difference
from model.strategies import make_forward
from model.weight_cache import WeightCache
from service.core.clock import Clock
from service.core.errors import ServiceError
from service.core.holder import ModelHolder
from service.core.run_options import RunOptions
from service.core.scheduler import Scheduler
from service.core.served import ServedModel
from service.core.telemetry import Telemetry

logger = logging.getLogger(__name__)

# Small, so that the engine shows signs of life between them however slow the machine is.
_TASKS_AT_ONCE = 16


class ModelLoader(Protocol):
    """Reads a model; called on a thread where it may take its time."""

    def __call__(self) -> ServedModel:
        """Raises TaskRouteError for a model that cannot be served."""
        ...


class RepositoryLoader:
    """Loads one version of one model, by default the latest, from a repository."""

    def __init__(
        self,
        root: Path,
        name: str,
        version: int | None,
        options: RunOptions,
    ) -> None:
        self._repository = Repository(root)
        self._name = name
        self._version = version
        self._options = options
        # Lives as long as the process: a later version finds the weights that did not change.
        self._cache = WeightCache(options.subnet_budget_bytes)

    def __call__(self) -> ServedModel:
        start = time.monotonic()
        version = self._version or self._repository.latest(self._name)
        bundle = self._repository.read(self._name, version)
        network = bundle.network()
        options = self._options
        forward = make_forward(
            network,
            options.strategy,
            torch.device(options.device),
            dtype=options.dtype,
            workers=options.workers,
            cache=self._cache,
        )
        error = largest_probability_difference(forward, network)
        _check_precision(error, options)
        return ServedModel(
            name=self._name,
            version=version,
            digest=bundle.digest,
            config=bundle.config,
            forward=forward,
            device=options.device,
            precision=options.precision,
            precision_error=error,
            loaded_at=time.time(),
            load_seconds=time.monotonic() - start,
            parameters=network.parameter_counts(),
            metrics=bundle.metrics,
        )


def _check_precision(error: float, options: RunOptions) -> None:
    """NaN is left to the warm-up, which names the tasks."""
    if options.max_probability_error < error < math.inf:
        raise ConfigError(
            f"with precision {options.precision} a probability differs by {error:.3g} from "
            f"float32; the limit is {options.max_probability_error} (max_probability_error): "
            "raise it, or set precision to float32",
            precision=options.precision,
            precision_error=error,
        )


async def load_and_serve(
    load: ModelLoader,
    holder: ModelHolder,
    scheduler: Scheduler,
    telemetry: Telemetry,
    clock: Clock,
    warmup_s: float,
    max_rows: int,
) -> None:
    """Load beside whatever is served, warm up, then swap. A model that fails is refused."""
    try:
        model = await asyncio.to_thread(load)
        await warm_up(model, scheduler, clock, warmup_s, max_rows)
    except TaskRouteError as error:
        logger.error("model %r is refused: %s", holder.name, error.message)
        refusal: TaskRouteError = error
    except Exception as error:
        logger.exception("model %r could not be loaded", holder.name)
        kind = type(error).__name__
        refusal = ServiceError(f"loading failed unexpectedly ({kind}); the log has the traceback")
    else:
        holder.serve(model)
        telemetry.model_loaded(model)
        logger.info(
            "model is ready",
            extra={
                "fields": {
                    "model": model.name,
                    "version": model.version,
                    "bundle": model.digest,
                    "tasks": len(model.tasks),
                    "strategy": model.strategy,
                    "load_seconds": round(model.load_seconds, 3),
                }
            },
        )
        return
    holder.refuse(refusal)
    telemetry.model_refused()


async def warm_up(
    model: ServedModel, scheduler: Scheduler, clock: Clock, seconds: float, max_rows: int
) -> None:
    """Run growing batches on the engine thread, between whatever else it does.

    The first run of every shape pays for memory, kernels and cut weights; the second one teaches
    the cost model. Every task is asked, as far as ``seconds`` reach: the first batch is run
    whatever it takes.

    Raises:
        BundleError: the network answers what is not a number.
    """
    until = clock.now() + seconds
    for batch in _warm_up_batches(model, max_rows):
        for learn in (False, True):
            start = clock.now()
            call = scheduler.call(lambda batch=batch: _run(model, batch))  # type: ignore[misc]
            took = await asyncio.wrap_future(call)
            if learn:
                scheduler.learn(model, len(batch), took)
            if clock.now() + 2 * (clock.now() - start) >= until:  # the next one is twice as large
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
