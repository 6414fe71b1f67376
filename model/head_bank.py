"""All tasks' heads, cut to the features they use and stacked for batched matrix products."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.heads import TaskHeads

Images = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Features:
    """Pooled features behind the last convolution: shared by the tasks, or one block for each."""

    tasks: tuple[int, ...]
    images: tuple[Images, ...]  # of each task, equally many
    pooled: Tensor  # float32 [1 or len(tasks), images, used features]

    def rows(self) -> Iterator[tuple[int, int]]:
        """(image, task) in the order of the logits computed from ``pooled``."""
        for task, images in zip(self.tasks, self.images, strict=True):
            for image in images:
                yield image, task


@dataclass(frozen=True, eq=False)
class Ready:
    """Logits that were computed together with the features."""

    rows: list[tuple[int, int]]  # (image, task)
    logits: Tensor  # float32 [len(rows), max_outputs] on the CPU


@dataclass(frozen=True, eq=False)
class _Stack:
    """Heads of the tasks that use equally many features."""

    embed: Tensor | None  # [tasks, used, embedding]
    embed_bias: Tensor | None  # [tasks, 1, embedding]
    weight: Tensor  # [tasks, embedding or used, max_outputs]
    bias: Tensor  # [tasks, 1, max_outputs], -inf beyond a task's outputs

    def logits(self, features: Tensor, chosen: Tensor) -> Tensor:
        """[k, n, used] of the tasks at positions ``chosen`` [k] -> [k, n, max_outputs]."""
        if self.embed is not None and self.embed_bias is not None:
            features = F.relu(torch.baddbmm(self.embed_bias[chosen], features, self.embed[chosen]))
        return torch.baddbmm(self.bias[chosen], features, self.weight[chosen])


class HeadBank:
    """Logits of rows from the features of their tasks."""

    def __init__(self, heads: TaskHeads, used: dict[int, Tensor | None]) -> None:
        """``used``: by task, which features it reads (int64, None for all)."""
        width = heads.weight.shape[1] if heads.embed_weight is None else heads.embed_weight.shape[2]
        by_count: dict[int, list[int]] = {}
        for task, units in used.items():
            by_count.setdefault(width if units is None else len(units), []).append(task)
        self._stacks = {count: _stack(heads, tasks, used) for count, tasks in by_count.items()}
        self._position = {
            task: place for tasks in by_count.values() for place, task in enumerate(tasks)
        }

    def answer(
        self, found: Sequence[Features], ready: Ready, rows: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Logits float32 [R, max_outputs] on the CPU for ``rows`` of (image, task).

        Each is in ``ready`` already, or computed from what was ``found``.
        """
        alike: dict[tuple[int, int], list[Features]] = {}
        for item in found:
            alike.setdefault((item.pooled.shape[1], item.pooled.shape[2]), []).append(item)
        if not found and ready.rows == rows:
            return ready.logits
        blocks = [ready.logits]
        # Of an (image, task) among all logits.
        place = {row: index for index, row in enumerate(ready.rows)}
        count = len(place)
        for (images, features), items in alike.items():
            stacked = torch.cat([i.pooled.expand(len(i.tasks), images, features) for i in items])
            tasks = [task for item in items for task in item.tasks]
            chosen = torch.tensor([self._position[task] for task in tasks], device=stacked.device)
            blocks.append(self._stacks[features].logits(stacked, chosen).flatten(0, 1))
            for item in items:
                for row in item.rows():
                    place[row] = count
                    count += 1
        order = torch.tensor([place[row] for row in rows])
        return torch.cat([block.cpu() for block in blocks])[order]


def _stack(heads: TaskHeads, tasks: list[int], used: dict[int, Tensor | None]) -> _Stack:
    """The heads of ``tasks``, which all use the same number of features."""

    def cut(weight: Tensor, task: int) -> Tensor:
        units = used[task]
        return weight if units is None else weight.index_select(-1, units.to(weight.device))

    chosen = torch.tensor(tasks, device=heads.weight.device)
    rows = heads.logit_rows[chosen]
    bias = heads.bias.detach()[rows].masked_fill(heads.padding[chosen], -math.inf).unsqueeze(1)
    weight = heads.weight.detach()[rows]  # [tasks, max_outputs, embedding or features]
    if heads.embed_weight is None or heads.embed_bias is None:
        cut_weight = torch.stack([cut(weight[place], task) for place, task in enumerate(tasks)])
        return _Stack(None, None, cut_weight.mT.contiguous(), bias)
    embed = torch.stack([cut(heads.embed_weight.detach()[task], task) for task in tasks])
    embed_bias = heads.embed_bias.detach()[chosen].unsqueeze(1)
    return _Stack(embed.mT.contiguous(), embed_bias, weight.mT.contiguous(), bias)
