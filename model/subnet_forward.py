"""Runs a plan: shared convolutions once per distinct image, then each task's own units only."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from model.cut_conv import CutConv
from model.head_bank import Features, HeadBank
from model.network import RoutedNetwork
from model.plan import Cut, Node, NodeFork, make_plan, shares_conv
from model.rows import RowBatch
from model.weight_cache import WeightCache, content_key

Images = tuple[int, ...]  # positions in RowBatch.images: what the rows of an activation belong to
Wanted = dict[int, Images]  # by task: the images it is asked about, each once


@dataclass(frozen=True, eq=False)
class _Visit:
    """A node still to be run, with its input."""

    node: Node
    x: Tensor  # [len(images), in, H, W], all input units of the fork before selection
    select: Tensor | None
    images: Images


class SubnetForward:
    """Rows through the plan of all tasks.

    Called by one thread. With ``workers`` > 1 the tasks' own tails are spread over that many
    threads of its own, each running its convolutions single-threaded: a small convolution gains
    little from a second thread inside it, two convolutions side by side gain nearly all of it.
    """

    name: Literal["subnet"] = "subnet"

    def __init__(
        self,
        network: RoutedNetwork,
        device: torch.device,
        *,
        dtype: torch.dtype = torch.float32,
        workers: int = 1,
        cache: WeightCache | None = None,
    ) -> None:
        self._network = network.eval().to(device)
        self._device, self._dtype = device, dtype
        self._roots = make_plan(network, range(len(network.tasks)))
        self._heads = HeadBank(network.heads, _used_features(self._roots))
        self._cache = cache or WeightCache()
        self._layer_keys = [content_key(layer, dtype) for layer in network.layers]
        self._workers = workers if device.type == "cpu" else 1
        self._pool: ThreadPoolExecutor | None = None

    @torch.inference_mode()
    def __call__(self, batch: RowBatch) -> Tensor:
        images, tasks = batch.image_index.tolist(), batch.task_index.tolist()
        asked: dict[int, dict[int, None]] = {}
        for image, task in zip(images, tasks, strict=True):
            asked.setdefault(task, {})[image] = None
        wanted = {task: tuple(sorted(members)) for task, members in asked.items()}
        pixels = batch.images.to(self._device, non_blocking=True)
        x = self._network.normalise(pixels).to(self._dtype)
        # Already channels last in memory: the pixels are [N, H, W, 3].
        features = self._run(
            [_Visit(root, x, None, tuple(range(len(pixels)))) for root in self._roots], wanted
        )
        return self._heads.answer(features, list(zip(images, tasks, strict=True)))

    def close(self) -> None:
        """Stop the worker threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def _threads(self) -> ThreadPoolExecutor:
        """The workers, each with one thread inside its operators."""
        if self._pool is None:
            threads = torch.get_num_threads()
            self._pool = ThreadPoolExecutor(self._workers, "subnet")
            together = threading.Barrier(self._workers)

            def begin(_: int) -> None:
                torch.set_num_threads(1)
                together.wait()  # so that every worker runs this once

            list(self._pool.map(begin, range(self._workers)))
            # The setting is also the default of threads that start later: put it back.
            torch.set_num_threads(threads)
        return self._pool

    def _run(self, visits: list[_Visit], wanted: Wanted) -> list[Features]:
        """Level by level while branches are shared, in parallel once there are enough of them."""
        found: list[Features] = []
        while visits:
            if self._workers > 1 and len(visits) >= 2 * self._workers:
                parts = [visits[start :: self._workers] for start in range(self._workers)]
                for part in self._threads().map(lambda own: self._depth_first(own, wanted), parts):
                    found.extend(part)
                return found
            below: list[_Visit] = []
            for visit in visits:
                below.extend(self._visit(visit, wanted, found))
            visits = below
        return found

    @torch.inference_mode()
    def _depth_first(self, visits: Sequence[_Visit], wanted: Wanted) -> list[Features]:
        """Run each visit to its leaves before the next: few activations alive at a time."""
        found: list[Features] = []
        stack = list(reversed(visits))
        while stack:
            stack.extend(reversed(self._visit(stack.pop(), wanted, found)))
        return found

    def _visit(self, visit: _Visit, wanted: Wanted, found: list[Features]) -> list[_Visit]:
        """One node: its convolution, then the visits it leads to; leaves go to ``found``."""
        node = visit.node
        forks = node.active(wanted.keys())
        if not forks:
            return []
        x = visit.x if visit.select is None else _channels(visit.x, visit.select)
        x, images = _only(x, visit.images, [t for t in node.tasks if t in wanted], wanted)
        shared = self._conv(node.cut)(x) if shares_conv(node, forks) else None
        below: list[_Visit] = []
        for fork in forks:
            if shared is None:
                y, select = self._conv(fork.alone)(x), None
            else:
                y, select = shared, fork.select
            if fork.nodes:
                below.extend(_Visit(child, y, select, images) for child in fork.nodes)
            else:
                found.append(_features(fork, y, select, images, wanted))
        return below

    def _conv(self, cut: Cut) -> CutConv:
        layer = self._network.layers[cut.layer]
        return self._cache.get(
            self._layer_keys[cut.layer] + cut.key,
            lambda: CutConv.cut(
                layer, cut.in_units, cut.out_units, cut.norm_row, dtype=self._dtype, size=cut.size
            ),
        )


def _channels(x: Tensor, select: Tensor) -> Tensor:
    """Some channels of a channels-last [N, C, H, W], channels last again."""
    return x.permute(0, 2, 3, 1).index_select(3, select.to(x.device)).permute(0, 3, 1, 2)


def _only(
    x: Tensor, images: Images, active: Sequence[int], wanted: Wanted
) -> tuple[Tensor, Images]:
    """The rows of ``x`` for images that any of the ``active`` tasks asks about."""
    if any(len(wanted[task]) == len(images) for task in active):
        return x, images
    needed = {image for task in active for image in wanted[task]}
    if len(needed) == len(images):
        return x, images
    keep = [row for row, image in enumerate(images) if image in needed]
    return x[keep], tuple(images[row] for row in keep)


def _features(
    fork: NodeFork, y: Tensor, select: Tensor | None, images: Images, wanted: Wanted
) -> Features:
    tasks = tuple(task for task in wanted if task in fork.tasks)
    pooled = y.mean(dim=(2, 3)).float()
    return Features(tasks, images, pooled if select is None else pooled[:, select.to(y.device)])


def _used_features(roots: Sequence[Node]) -> dict[int, Tensor | None]:
    """By task: the last layer's units on its route."""
    return {
        task: fork.units
        for root in roots
        for node in root.walk()
        for fork in node.forks
        if not fork.nodes
        for task in fork.tasks
    }
