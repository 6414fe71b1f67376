"""Three ways to run a batch of rows, one answer.

``masked``   the paper's way: group rows by task, set the task's masks, run the full network; the
reference
``mixed``    one batch of many tasks, one mask row gathered per row
``subnet``   what tasks share once per image, then each task's own units only (:mod:`model.plan`)
``auto``     whichever measures fastest on this machine for this model

All give the same numbers (within 1e-5 of a probability in float32), and no row's answer depends on
the other rows of its batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from model.network import RoutedNetwork
from model.rows import RowBatch
from model.subnet_forward import SubnetForward
from model.weight_cache import WeightCache

Strategy = Literal["masked", "mixed", "subnet"]
STRATEGIES: tuple[Strategy, ...] = ("masked", "mixed", "subnet")


class Forward(Protocol):
    """Runs rows on the thread that calls it; not for several threads at once."""

    @property
    def name(self) -> str:
        """The strategy in use."""

    @property
    def kernels(self) -> str:
        """What runs the convolutions: "pytorch", or "compiled" and the instruction set."""

    def __call__(self, batch: RowBatch) -> Tensor:
        """Logits float32 [R, max_outputs] on the CPU, -inf beyond a task's outputs."""


class MaskedForward:
    """Rows grouped by task; the full, masked network per group."""

    name: Strategy = "masked"
    kernels = "pytorch"

    def __init__(
        self, network: RoutedNetwork, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self._network, self._device, self._dtype = network.eval().to(device), device, dtype

    @torch.inference_mode()
    def __call__(self, batch: RowBatch) -> Tensor:
        logits = torch.full((len(batch), self._network.tasks.max_outputs), -math.inf)
        images = batch.images.to(self._device)
        for task in torch.unique(batch.task_index).tolist():
            rows = (batch.task_index == task).nonzero().flatten()
            chosen = images[batch.image_index[rows].to(self._device)]
            with _precision(self._device, self._dtype):
                answered = self._network(chosen, task)
            logits[rows, : answered.shape[1]] = answered.float().cpu()
        return logits


class MixedForward:
    """All rows in one batch; each row's masks are gathered by its task.

    Rows of tasks that were added later run in a batch of their own, so that they change nothing,
    not even the last bit, in the others' answers.
    """

    name: Strategy = "mixed"
    kernels = "pytorch"

    def __init__(
        self, network: RoutedNetwork, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self._network, self._device, self._dtype = network.eval().to(device), device, dtype
        self._generations = torch.tensor(network.config.generation_of)

    @torch.inference_mode()
    def __call__(self, batch: RowBatch) -> Tensor:
        images = batch.images[batch.image_index].to(self._device)
        logits = torch.empty(len(batch), self._network.tasks.max_outputs)
        for rows in self._passes(batch.task_index):
            with _precision(self._device, self._dtype):
                tasks = batch.task_index[rows].to(self._device)
                logits[rows] = self._network(images[rows], tasks).float().cpu()
        return logits

    def _passes(self, task_index: Tensor) -> list[Tensor | slice]:
        """Rows that run together: those of tasks that came into the model together."""
        if not self._generations.any():
            return [slice(None)]
        generations = self._generations[task_index]
        return [(generations == one).nonzero().flatten() for one in set(generations.tolist())]


def make_forward(
    network: RoutedNetwork,
    strategy: Strategy | Literal["auto"],
    device: torch.device | str = "cpu",
    *,
    dtype: torch.dtype = torch.float32,
    workers: int = 1,
    cache: WeightCache | None = None,
    native: bool = True,
    sample: RowBatch | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Forward:
    """The forward for ``strategy``; ``auto`` times them on ``sample`` and takes the fastest.

    Args:
        dtype: of the convolutions; logits are always float32.
        workers: threads over which ``subnet`` spreads the tasks on a CPU.
        cache: of cut weights, to be shared by versions of one model.
        native: whether ``subnet`` may use compiled kernels (:mod:`model.native`).
        sample: defaults to one image asked for all tasks, at most 8 of them.
    """
    place = torch.device(device)

    def make(name: Strategy) -> Forward:
        if name == "masked":
            return MaskedForward(network, place, dtype)
        if name == "mixed":
            return MixedForward(network, place, dtype)
        return SubnetForward(
            network, place, dtype=dtype, workers=workers, cache=cache, native=native
        )

    if strategy != "auto":
        return make(strategy)
    # The usual winner first: a slow one is then given up after a single run.
    candidates = [make(name) for name in reversed(STRATEGIES)]
    return fastest(candidates, sample or sample_batch(network, tasks=8), clock)


def fastest(
    forwards: Sequence[Forward], batch: RowBatch, clock: Callable[[], float] = time.perf_counter
) -> Forward:
    """The forward that answers ``batch`` soonest: the better of two runs after a warm-up run.

    One whose warm-up run takes three times the best so far is not run again.
    """
    best, best_seconds = forwards[0], math.inf
    for forward in forwards:
        if _seconds(forward, batch, clock) > 3 * best_seconds:
            continue
        seconds = min(_seconds(forward, batch, clock) for _ in range(2))
        if seconds < best_seconds:
            best, best_seconds = forward, seconds
    return best


def _seconds(forward: Forward, batch: RowBatch, clock: Callable[[], float]) -> float:
    start = clock()
    forward(batch)
    return clock() - start


def sample_batch(network: RoutedNetwork, images: int = 1, tasks: int = 40) -> RowBatch:
    """Random images, each asked for the first ``tasks`` tasks: for warm-up and measurement."""
    spec = network.config.preprocess
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(
        0, 256, (images, spec.height, spec.width, 3), dtype=torch.uint8, generator=generator
    )
    return RowBatch.all_pairs(pixels, range(min(tasks, len(network.tasks))))


def _precision(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
