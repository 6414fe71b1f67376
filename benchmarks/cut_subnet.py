"""One task's cut-out subnet by threads, image size and rows: what int8 and runtimes measure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.number_list import integers
from model.config import ModelConfig, PreprocessConfig, RoutingConfig
from model.network import RoutedNetwork, build
from model.tasks import Task

TASKS = 40
PAUSE_S = 0.2
"""Between two ways that are timed in turn: each has threads that go on spinning after a call."""
Measure = Callable[[int, int, float, int, int], dict[str, Any]]
"""Of image size in pixels, rows, keep, threads and rounds."""


def network_of(size: int, keep: float) -> RoutedNetwork:
    """All layers routed: the subnet is a small network from the first layer on."""
    return build(
        ModelConfig(
            routing=RoutingConfig(keep=keep),
            preprocess=PreprocessConfig(height=size, width=size),
            tasks=tuple(Task(name=f"task-{index}") for index in range(TASKS)),
        )
    ).eval()


def cells(
    measure: Measure, *, sizes: str, rows: str, keep: float, threads: str, rounds: int
) -> Iterator[dict[str, Any]]:
    """``measure`` at every combination of the lists, PyTorch's threads set to the cell's."""
    for count, size, batch in itertools.product(*map(integers, (threads, sizes, rows))):
        torch.set_num_threads(count)
        yield measure(size, batch, keep, count, rounds)
