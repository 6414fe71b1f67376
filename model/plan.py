"""The plan that runs subnets: shared layers once per image, then each task's own units only.

A plan walks the tree of :mod:`model.route_tree` over the model's tasks, with batch norm folded into
weights that are cut to the units in use. Cut weights are made on demand and kept under a byte
budget.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from model.cut_conv import CutConv
from model.network import RoutedNetwork
from model.route_tree import Branch, Fork
from model.rows import RowBatch

DEFAULT_BUDGET_BYTES = 2 * 2**30

Images = tuple[int, ...]  # positions in RowBatch.images, the rows of an activation


class SubnetForward:
    """Rows through the tree of distinct computations."""

    name: Literal["subnet"] = "subnet"

    def __init__(
        self,
        network: RoutedNetwork,
        device: torch.device,
        budget_bytes: int = DEFAULT_BUDGET_BYTES,
    ) -> None:
        self._network = network.eval().to(device)
        self._device = device
        self._roots = network.tree(range(len(network.tasks)))
        self._weights = WeightCache(network, budget_bytes)

    @torch.inference_mode()
    def __call__(self, batch: RowBatch) -> Tensor:
        rows: dict[int, list[int]] = {}
        for row, task in enumerate(batch.task_index.tolist()):
            rows.setdefault(task, []).append(row)
        image_of = batch.image_index.tolist()
        wanted = {task: tuple(image_of[row] for row in members) for task, members in rows.items()}
        found: dict[int, Tensor] = {}
        x = self._network.normalise(batch.images.to(self._device)).contiguous(
            memory_format=torch.channels_last
        )
        everything = tuple(range(len(batch.images)))
        for root in self._roots:
            self._run(root, x, everything, wanted, found)
        logits = torch.full((len(batch), self._network.tasks.max_outputs), -math.inf)
        for task, answered in found.items():
            logits[rows[task], : answered.shape[1]] = answered.float().cpu()
        return logits

    def _run(
        self,
        branch: Branch,
        x: Tensor,
        images: Images,
        wanted: dict[int, Images],
        found: dict[int, Tensor],
    ) -> None:
        active = [task for task in branch.tasks if task in wanted]
        if not active:
            return
        x, images = _only(x, images, active, wanted)
        y = self._weights.conv(branch)(x)
        for fork in branch.forks:
            used = y if fork.select is None else y.index_select(1, fork.select)
            for below in fork.branches:
                self._run(below, used, images, wanted, found)
            if not fork.branches:
                self._answer(fork, used.mean(dim=(2, 3)), images, wanted, found)

    def _answer(
        self,
        fork: Fork,
        features: Tensor,
        images: Images,
        wanted: dict[int, Images],
        found: dict[int, Tensor],
    ) -> None:
        position = {image: row for row, image in enumerate(images)}
        for task in fork.tasks:
            if task in wanted:
                chosen = features[[position[image] for image in wanted[task]]]
                found[task] = self._network.heads.forward_features(chosen, task, fork.units)


def _only(
    x: Tensor, images: Images, active: Sequence[int], wanted: dict[int, Images]
) -> tuple[Tensor, Images]:
    """The rows of ``x`` for images that any of the ``active`` tasks asks about."""
    needed = {image for task in active for image in wanted[task]}
    if len(needed) == len(images):
        return x, images
    keep = [row for row, image in enumerate(images) if image in needed]
    return x[keep], tuple(images[row] for row in keep)


class WeightCache:
    """Cut and folded weights by branch; the least recently used go first when over budget."""

    def __init__(self, network: RoutedNetwork, budget_bytes: int) -> None:
        self._network = network
        self._budget = budget_bytes
        self._used = 0
        self._convs: OrderedDict[int, CutConv] = OrderedDict()

    @property
    def bytes(self) -> int:
        """Bytes held now."""
        return self._used

    def conv(self, branch: Branch) -> CutConv:
        key = id(branch)  # the tree lives as long as the plan that owns this cache
        found = self._convs.get(key)
        if found is not None:
            self._convs.move_to_end(key)
            return found
        made = CutConv.cut(
            self._network.layers[branch.layer], branch.in_units, branch.out_units, branch.norm_row
        )
        while self._convs and self._used + made.bytes > self._budget:
            self._used -= self._convs.popitem(last=False)[1].bytes
        self._convs[key] = made
        self._used += made.bytes
        return made
