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

    tasks: tuple[int, ...]  # of one generation
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
    weight: Tensor  # [tasks, embedding or used, width]
    bias: Tensor  # [tasks, 1, width], -inf beyond a task's outputs

    def logits(self, features: Tensor, chosen: Tensor) -> Tensor:
        """[k, n, used] of the tasks at positions ``chosen`` [k] -> [k, n, width]."""
        if self.embed is not None and self.embed_bias is not None:
            features = F.relu(torch.baddbmm(self.embed_bias[chosen], features, self.embed[chosen]))
        return torch.baddbmm(self.bias[chosen], features, self.weight[chosen])


class HeadBank:
    """Logits of rows from the features of their tasks.

    Each generation of tasks has matrix products of its own, so that tasks that are added later
    change none of the shapes, and with them the last bits, of the earlier ones' products.
    """

    def __init__(self, heads: TaskHeads, used: dict[int, Tensor | None]) -> None:
        """``used``: by task, which features it reads (int64, None for all)."""
        width = heads.weight.shape[1] if heads.embed_weight is None else heads.embed_weight.shape[2]
        self._generations, self._outputs = heads.generations, heads.padding.shape[1]
        alike: dict[tuple[int, int], list[int]] = {}  # by generation and number of features
        for task, units in used.items():
            key = (heads.generations[task], width if units is None else len(units))
            alike.setdefault(key, []).append(task)
        self._stacks = {key: _stack(heads, tasks, used) for key, tasks in alike.items()}
        self._position = {
            task: place for tasks in alike.values() for place, task in enumerate(tasks)
        }

    def answer(
        self, found: Sequence[Features], ready: Ready, rows: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Logits float32 [R, max_outputs] on the CPU for ``rows`` of (image, task).

        Each is in ``ready`` already, or computed from what was ``found``.
        """
        alike: dict[tuple[int, int, int], list[Features]] = {}
        for item in found:
            generation = self._generations[item.tasks[0]]
            _, images, features = item.pooled.shape
            alike.setdefault((generation, images, features), []).append(item)
        if not found and ready.rows == rows:
            return ready.logits
        blocks = [ready.logits]
        # Of an (image, task) among all logits.
        place = {row: index for index, row in enumerate(ready.rows)}
        count = len(place)
        for (generation, images, features), items in alike.items():
            stacked = torch.cat([i.pooled.expand(len(i.tasks), images, features) for i in items])
            tasks = [task for item in items for task in item.tasks]
            chosen = torch.tensor([self._position[task] for task in tasks], device=stacked.device)
            logits = self._stacks[generation, features].logits(stacked, chosen).flatten(0, 1)
            missing = self._outputs - logits.shape[1]
            blocks.append(F.pad(logits, (0, missing), value=-math.inf) if missing else logits)
            for item in items:
                for row in item.rows():
                    place[row] = count
                    count += 1
        order = torch.tensor([place[row] for row in rows])
        return torch.cat([block.cpu() for block in blocks])[order]


def _stack(heads: TaskHeads, tasks: list[int], used: dict[int, Tensor | None]) -> _Stack:
    """The heads of ``tasks``: of one generation, and with the same number of features each."""

    def cut(weight: Tensor, task: int) -> Tensor:
        units = used[task]
        return weight if units is None else weight.index_select(-1, units.to(weight.device))

    chosen = torch.tensor(tasks, device=heads.weight.device)
    width = heads.width(heads.generations[tasks[0]])
    rows, padding = heads.logit_rows[chosen, :width], heads.padding[chosen, :width]
    bias = heads.bias.detach()[rows].masked_fill(padding, -math.inf).unsqueeze(1)
    weight = heads.weight.detach()[rows]  # [tasks, width, embedding or features]
    if heads.embed_weight is None or heads.embed_bias is None:
        cut_weight = torch.stack([cut(weight[place], task) for place, task in enumerate(tasks)])
        return _Stack(None, None, cut_weight.mT.contiguous(), bias)
    embed = torch.stack([cut(heads.embed_weight.detach()[task], task) for task in tasks])
    embed_bias = heads.embed_bias.detach()[chosen].unsqueeze(1)
    return _Stack(embed.mT.contiguous(), embed_bias, weight.mT.contiguous(), bias)
