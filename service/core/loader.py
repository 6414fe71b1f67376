"""From a bundle in the repository to the model that answers."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from pathlib import Path
from typing import Protocol

import torch

from model.errors import ConfigError, TaskRouteError
from model.repository import Repository
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
from service.core.warm_up import warm_up

logger = logging.getLogger(__name__)


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
