"""Task heads (paper, section 3.3): each task's own embedding of the features, then its logits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.route_tree import unit_table
from model.tasks import TaskSet


class TaskHeads(nn.Module):
    """One small network per task: features -> ReLU embedding -> logits; stored stacked.

    Binary tasks have one logit, multi-class tasks one per class. With ``embedding`` 0 the logits
    are a linear function of the features.
    """

    logit_rows: Tensor  # int64 [tasks, max_outputs]: rows of ``weight``, 0 where ``padding``
    padding: Tensor  # bool [tasks, max_outputs]: beyond the task's outputs

    def __init__(
        self, tasks: TaskSet, features: int, embedding: int, generations: Sequence[int] = ()
    ) -> None:
        """``generations``: by task (:class:`model.config.ModelConfig`); empty: one for all."""
        super().__init__()
        outputs = [task.outputs for task in tasks]
        self.generations = tuple(generations) or (0,) * len(tasks)
        self.starts = [sum(outputs[:index]) for index in range(len(outputs))]
        self.outputs = outputs
        self.embed_weight = (
            nn.Parameter(torch.empty(len(tasks), embedding, features)) if embedding else None
        )
        self.embed_bias = nn.Parameter(torch.zeros(len(tasks), embedding)) if embedding else None
        self.weight = nn.Parameter(torch.empty(sum(outputs), embedding or features))
        self.bias = nn.Parameter(torch.zeros(sum(outputs)))
        columns = torch.arange(tasks.max_outputs)
        padding = columns >= torch.tensor(outputs)[:, None]
        rows = torch.tensor(self.starts)[:, None] + columns
        # Derived from the tasks, so not part of the state.
        self.register_buffer("padding", padding, persistent=False)
        self.register_buffer("logit_rows", rows.masked_fill(padding, 0), persistent=False)

    def reset_parameters(self, used_features: list[int]) -> None:
        """He initialisation by the number of features that each task really receives."""
        if self.embed_weight is not None:
            for task, fan_in in enumerate(used_features):
                nn.init.normal_(self.embed_weight[task], std=math.sqrt(2.0 / fan_in))
            nn.init.normal_(self.weight, std=math.sqrt(1.0 / self.weight.shape[1]))
        else:
            for task, fan_in in enumerate(used_features):
                nn.init.normal_(self.weight[self._slice(task)], std=math.sqrt(1.0 / fan_in))

    @torch.no_grad()
    def copy_task(self, task: int, source: TaskHeads, other: int) -> None:
        """Take the weights of ``source``'s task ``other``, a head of the same shape."""
        for name, value in self.named_parameters():
            theirs = source.get_parameter(name)
            if name.startswith("embed"):
                value[task].copy_(theirs[other])
            else:
                value[self._slice(task)].copy_(theirs[source._slice(other)])

    def forward(self, features: Tensor, task: int | Tensor) -> Tensor:
        """[N, features] -> [N, outputs] for one task; for int64 [N], [N, max_outputs] with -inf."""
        if isinstance(task, int):
            return self.forward_features(features, task, None)
        x = features
        if self.embed_weight is not None and self.embed_bias is not None:
            x = torch.bmm(self.embed_weight[task], x[:, :, None]).squeeze(2)  # [N, E]
            x = F.relu(x + self.embed_bias[task])
        width = self._width(task)
        rows = self.logit_rows[task, :width]  # [N, width]
        logits = torch.bmm(self.weight[rows], x[:, :, None]).squeeze(2) + self.bias[rows]
        logits = F.pad(logits, (0, self.padding.shape[1] - width))
        return logits.masked_fill(self.padding[task], -math.inf)

    def forward_features(self, features: Tensor, task: int, used: Tensor | None) -> Tensor:
        """Logits [N, outputs] of one task from the features ``used`` (int64 [n], None: all)."""
        embed, weight, bias = self.parts(task, used)
        if embed is not None:
            features = F.relu(F.linear(features, *embed))
        return F.linear(features, weight, bias)

    def forward_tasks(
        self, features: Mapping[int, tuple[Tensor, Tensor | None]]
    ) -> dict[int, Tensor]:
        """:meth:`forward_features` of many tasks; in training, heads of equal shape in one
        operation.

        Not in evaluation: in one operation with later tasks, the answers of those that a model had
        before them would change in their last bits.

        Args:
            features: by task, [N, n] and which they are (int64 [n], None: all).
        """
        if not self.training:
            return {
                task: self.forward_features(x, task, used) for task, (x, used) in features.items()
            }
        alike: dict[tuple[int, int], list[int]] = {}
        for task, (x, _) in features.items():
            alike.setdefault((self.outputs[task], x.shape[1]), []).append(task)
        return {
            task: logits
            for tasks in alike.values()
            for task, logits in zip(tasks, self._stacked(tasks, features), strict=True)
        }

    def _stacked(
        self, tasks: list[int], features: Mapping[int, tuple[Tensor, Tensor | None]]
    ) -> Sequence[Tensor]:
        """Logits [N, outputs] of tasks with equally many outputs and features."""
        first = features[tasks[0]][0]
        shared = all(features[task][0] is first for task in tasks)
        x = first if shared else torch.stack([features[task][0] for task in tasks])
        used = [features[task][1] for task in tasks]
        every = all(units is None for units in used)
        columns = None if every else unit_table(used, x.shape[-1], x.device)
        if self.embed_weight is not None and self.embed_bias is not None:
            embed = _taken(self.embed_weight[tasks], columns)
            x, columns = F.relu(_products(x, embed, self.embed_bias[tasks])), None
        rows = self.logit_rows[tasks, : self.outputs[tasks[0]]]  # [tasks, outputs]
        logits = _products(x, _taken(self.weight[rows], columns), self.bias[rows])
        return logits.unbind()

    def parts(
        self, task: int, used: Tensor | None
    ) -> tuple[tuple[Tensor, Tensor] | None, Tensor, Tensor]:
        """One task's embedding weight [E, n] and bias [E], where it has one, and its logits' weight
        [outputs, E or n] and bias [outputs]; ``used``: the features it reads (int64 [n]), None for
        all."""
        weight, bias = self.weight[self._slice(task)], self.bias[self._slice(task)]
        if self.embed_weight is None or self.embed_bias is None:
            return None, weight if used is None else weight[:, used], bias
        embed = self.embed_weight[task]
        return (embed if used is None else embed[:, used], self.embed_bias[task]), weight, bias

    def width(self, generation: int) -> int:
        """Most outputs of a task of this generation: the width of its matrix products."""
        members = zip(self.generations, self.outputs, strict=True)
        return max(outputs for number, outputs in members if number == generation)

    def _width(self, task: Tensor) -> int:
        if self.generations[-1] == 0:
            return self.padding.shape[1]
        return max(self.width(self.generations[one]) for one in set(task.tolist()))

    def _slice(self, task: int) -> slice:
        return slice(self.starts[task], self.starts[task] + self.outputs[task])


def _taken(weight: Tensor, columns: Tensor | None) -> Tensor:
    """[tasks, outputs, features] -> [tasks, outputs, n], each task's own ``columns`` of its."""
    return weight if columns is None else torch.take_along_dim(weight, columns[:, None], dim=2)


def _products(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[N, n] that all tasks read, or [tasks, N, n] -> [tasks, N, outputs]."""
    if x.ndim == 3:
        return torch.baddbmm(bias[:, None], x, weight.mT)
    found = F.linear(x, weight.flatten(0, 1), bias.flatten())
    return found.view(len(x), *bias.shape).transpose(0, 1)
