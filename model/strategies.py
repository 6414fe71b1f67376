"""Three ways to run a batch of rows, one answer.

``masked``   the paper's way: group rows by task, set the task's masks, run the full network; the
reference
``mixed``    one batch of many tasks, one mask row gathered per row
``subnet``   what tasks share once per image, then each task's own units only (:mod:`model.plan`)
``auto``     whichever measures fastest on this machine (:mod:`model.auto_forward`)

Networks with a trunk per task (:mod:`model.baselines.towers`) have nothing to mask or cut: what
runs them whole goes by the name of ``masked``.

All give the same numbers (within 1e-5 of a probability in float32), and no row's answer depends on
the other rows of its batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from model.auto_forward import AutoForward
from model.errors import ConfigError
from model.forward import Computing, Forward, nobody_waits
from model.network import RoutedNetwork
from model.rows import RowBatch
from model.subnet_forward import SubnetForward
from model.task_network import TaskNetwork
from model.upload import upload
from model.weight_cache import WeightCache

Strategy = Literal["masked", "mixed", "subnet"]
STRATEGIES: tuple[Strategy, ...] = ("masked", "mixed", "subnet")

_AUTO_TASKS = 8  # asked about one image, to find the fastest


class _WholeForward:
    """What the ways have in common that run the network as it is, uncut."""

    kernels = "pytorch"

    def __init__(
        self, network: TaskNetwork, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self._network, self._device, self._dtype = network.eval().to(device), device, dtype

    def close(self) -> None:
        """There is nothing to stop."""


class MaskedForward(_WholeForward):
    """Rows grouped by task; the full, masked network per group."""

    name: Strategy = "masked"

    @torch.inference_mode()
    def __call__(self, batch: RowBatch, computing: Computing = nobody_waits) -> Tensor:
        computing()
        logits = torch.full((len(batch), self._network.tasks.max_outputs), -math.inf)
        images = upload(batch.images, self._device)
        for task in torch.unique(batch.task_index).tolist():
            rows = (batch.task_index == task).nonzero().flatten()
            chosen = images[batch.image_index[rows].to(self._device)]
            with _precision(self._device, self._dtype):
                answered = self._network(chosen, task)
            logits[rows, : answered.shape[1]] = answered.float().cpu()
        return logits


class StitchedForward(_WholeForward):
    """The rows' distinct images once through all stitched towers, whatever tasks are asked."""

    name: Strategy = "masked"

    @torch.inference_mode()
    def __call__(self, batch: RowBatch, computing: Computing = nobody_waits) -> Tensor:
        computing()
        logits = torch.full((len(batch), self._network.tasks.max_outputs), -math.inf)
        asked = torch.unique(batch.task_index).tolist()
        with _precision(self._device, self._dtype):
            answers = self._network.forward_tasks(upload(batch.images, self._device), asked)
        for task, answered in zip(asked, answers, strict=True):
            rows = (batch.task_index == task).nonzero().flatten()
            logits[rows, : answered.shape[1]] = answered.float().cpu()[batch.image_index[rows]]
        return logits


class MixedForward(_WholeForward):
    """All rows in one batch; each row's masks are gathered by its task.

    Rows of tasks that were added later run in a batch of their own, so that they change nothing,
    not even the last bit, in the others' answers.
    """

    name: Strategy = "mixed"

    def __init__(
        self, network: RoutedNetwork, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(network, device, dtype)
        self._generations = torch.tensor(network.config.generation_of)

    @torch.inference_mode()
    def __call__(self, batch: RowBatch, computing: Computing = nobody_waits) -> Tensor:
        computing()
        distinct = upload(batch.images, self._device)
        images = distinct[batch.image_index.to(self._device)]
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
    network: TaskNetwork,
    strategy: Strategy | Literal["auto"],
    device: torch.device | str = "cpu",
    *,
    dtype: torch.dtype = torch.float32,
    workers: int = 1,
    cache: WeightCache | None = None,
    native: bool = True,
    compiled: bool = False,
    acceptable: Callable[[Forward], bool] = lambda forward: True,
) -> Forward:
    """The forward for ``strategy``; ``auto`` times them on a small batch and takes the fastest.

    Args:
        dtype: of the convolutions; logits are always float32.
        workers: threads over which ``subnet`` spreads the tasks on a CPU.
        cache: of cut weights, to be shared by versions of one model.
        native: whether ``subnet`` may use compiled kernels (:mod:`model.native`).
        compiled: whether it uses ``torch.compile`` where it has none.
        acceptable: whether ``auto`` may take a strategy instead of ``subnet``.

    Raises:
        ConfigError: a strategy that cuts routes out of a network that has none.
    """
    place = torch.device(device)
    if not isinstance(network, RoutedNetwork):
        return _whole_forward(network, strategy, place, dtype)
    makers: dict[Strategy, Callable[[], Forward]] = {
        "subnet": lambda: SubnetForward(
            network,
            place,
            dtype=dtype,
            workers=workers,
            cache=cache,
            native=native,
            compiled=compiled,
        ),
        "mixed": lambda: MixedForward(network, place, dtype),
        "masked": lambda: MaskedForward(network, place, dtype),
    }
    if strategy != "auto":
        return makers[strategy]()
    candidates = [make() for make in makers.values()]  # the usual winner first
    return AutoForward(candidates, sample_batch(network, tasks=_AUTO_TASKS), acceptable)


def _whole_forward(
    network: TaskNetwork, strategy: str, device: torch.device, dtype: torch.dtype
) -> Forward:
    """What runs a network without routes."""
    family = network.config.family
    if strategy not in ("auto", "masked"):
        raise ConfigError(
            f"strategy is {strategy!r} and the model's family is {family!r}: every task has a "
            "trunk of its own, so there are no routes to mix or cut; set strategy to 'auto' or "
            "'masked'",
            strategy=strategy,
            family=family,
        )
    if family == "cross_stitch":
        return StitchedForward(network, device, dtype)
    return MaskedForward(network, device, dtype)


def sample_batch(network: TaskNetwork, images: int = 1, tasks: int = 40) -> RowBatch:
    """Random images, each asked for the first ``tasks`` tasks: for warm-up and measurement."""
    spec = network.config.preprocess
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(
        0, 256, (images, spec.height, spec.width, 3), dtype=torch.uint8, generator=generator
    )
    return RowBatch.all_pairs(pixels, range(min(tasks, len(network.tasks))))


def _precision(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
