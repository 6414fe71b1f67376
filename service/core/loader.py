"""From a bundle in the repository to a model that can answer."""

from __future__ import annotations

import math
import time
from datetime import datetime
from pathlib import Path

import torch

from model.bundle import WEIGHTS, Bundle
from model.errors import BundleError, ConfigError
from model.remote_options import RemoteOptions
from model.repository import Published, Repository
from model.self_check import largest_probability_difference
from model.strategies import make_forward
from model.weight_cache import WeightCache
from service.core.run_options import RunOptions
from service.core.served import ServedModel
from service.core.source import ModelSource, ModelSources


class RepositorySources(ModelSources):
    """Every model in a repository."""

    def __init__(
        self, root: str | Path, options: RunOptions, remote: RemoteOptions | None = None
    ) -> None:
        self._repository = Repository(root, remote)
        self._options = options
        # Lives as long as the process: a later version, or one beside, finds the weights that did
        # not change, and the budget holds for all models together.
        self.cache = WeightCache(options.subnet_budget_bytes)

    def of(self, name: str) -> RepositoryLoader:
        return RepositoryLoader(self._repository, name, self._options, self.cache)


class RepositoryLoader(ModelSource):
    """Loads versions of one model from a repository."""

    def __init__(
        self, repository: Repository, name: str, options: RunOptions, cache: WeightCache
    ) -> None:
        self._repository = repository
        self._name = name
        self._options = options
        self._cache = cache

    def published(self, version: int | None = None) -> Published:
        return self._repository.published(self._name, version)

    def load(self, published: Published) -> ServedModel:
        start = time.monotonic()
        bundle = self._repository.read(self._name, published.version)
        _check_finite(bundle)
        network = bundle.any_network()
        options = self._options
        forward = make_forward(
            network,
            options.strategy,
            torch.device(options.device),
            dtype=options.dtype,
            workers=options.workers,
            cache=self._cache,
            native=options.compiled_kernels,
            compiled=options.compile_subnets,
            acceptable=lambda other: (
                largest_probability_difference(other, network) <= options.max_probability_error
            ),
        )
        error = largest_probability_difference(forward, network)
        forward.close()  # its threads would keep this thread's low priority
        _check_precision(error, options)
        return ServedModel(
            name=self._name,
            version=published.version,
            digest=bundle.digest,
            config=bundle.config,
            forward=forward,
            device=options.device,
            precision=options.precision,
            precision_error=error,
            created_at=_seconds(bundle.manifest.created_at),
            loaded_at=time.time(),
            load_seconds=time.monotonic() - start,
            parameters=network.parameter_counts(),
            metrics=bundle.metrics,
        )


def _seconds(created_at: str) -> float:
    """Seconds since the epoch; NaN for a bundle that some other program dated in another form."""
    try:
        return datetime.fromisoformat(created_at).timestamp()
    except ValueError:
        return math.nan


def _check_finite(bundle: Bundle) -> None:
    """Every weight, because the warm-up may not reach every task."""
    bad = [name for name, values in bundle.state.items() if not torch.isfinite(values).all()]
    if bad:
        raise BundleError(
            f"{bundle.path / WEIGHTS} holds NaN or infinity in {len(bad)} tensors, "
            f"{', '.join(bad[:3])} among them: the training diverged; publish another version",
            file=WEIGHTS,
        )


def _check_precision(error: float, options: RunOptions) -> None:
    """NaN that arises only within the network is left to the warm-up, which names the tasks."""
    if options.max_probability_error < error < math.inf:
        raise ConfigError(
            f"with precision {options.precision} a probability differs by {error:.3g} from "
            f"float32; the limit is {options.max_probability_error} (max_probability_error): "
            "raise it, or set precision to float32",
            precision=options.precision,
            precision_error=error,
        )
