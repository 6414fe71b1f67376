"""A trunk of its own for every task: single-task networks, or cross-stitch networks where the
towers' activations are mixed (:mod:`model.baselines.cross_stitch`).

Memory and work grow with the number of tasks (:mod:`model.baselines.memory`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, ValuesView
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from model.backbones import layer_shapes
from model.baselines.cross_stitch import CrossStitch
from model.config import ModelConfig
from model.conv_layer import LayerShape, RoutedConv
from model.errors import ConfigError
from model.heads import TaskHeads
from model.task_network import TaskNetwork


class Towers(nn.ModuleList):
    """One trunk per task, each an ``nn.ModuleList`` of convolutions."""

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[Sequence[RoutedConv]]: ...  # type: ignore[override]
        def __getitem__(self, index: int) -> Sequence[RoutedConv]: ...  # type: ignore[override]


class Stitches(nn.ModuleDict):
    """Cross-stitch units by the index of the convolution that they stand behind."""

    if TYPE_CHECKING:

        def __getitem__(self, key: str) -> CrossStitch: ...
        def values(self) -> ValuesView[CrossStitch]: ...


def tower_shapes(config: ModelConfig) -> Sequence[LayerShape]:
    """The convolutions of one tower.

    Raises:
        ConfigError: an architecture with residual blocks, or with parts of a task's own.
    """
    shapes = layer_shapes(config.backbone, (config.preprocess.height, config.preprocess.width))
    if not all(shape.plain and not shape.own_norm for shape in shapes):
        raise ConfigError(
            f"family is {config.family!r}, arch {config.backbone.arch!r} and norm "
            f"{config.backbone.norm!r}: towers are chains of convolutions that belong to one task "
            "each; take vgg or small_cnn, and norm batch",
            arch=config.backbone.arch,
        )
    return shapes


class TowerNetwork(TaskNetwork):
    """Task t's logits from tower t, alone (``single_task``) or stitched (``cross_stitch``)."""

    def __init__(self, config: ModelConfig) -> None:
        """Weights are uninitialised where random: use :func:`model.families.build`.

        Raises:
            ConfigError: an architecture that is no chain of convolutions, or unknown.
        """
        super().__init__(config)
        shapes = tower_shapes(config)
        self.towers = Towers(
            nn.ModuleList(RoutedConv(shape, None, 1) for shape in shapes) for _ in self.tasks
        )
        self.heads = TaskHeads(self.tasks, shapes[-1].units, config.head.embedding)
        self.stitches = Stitches()
        if config.family == "cross_stitch":
            self._add_stitches()

    def stitch(self) -> None:
        """Make single-task networks the towers of a cross-stitch network, in place."""
        self.config = self.config.replace(family="cross_stitch")
        self._add_stitches()

    def _add_stitches(self) -> None:
        device = self.heads.weight.device
        self.stitches = Stitches(
            {
                str(index): CrossStitch(len(self.tasks)).to(device)
                for index, layer in enumerate(self.towers[0])
                if layer.shape.pool
            }
        )

    def forward(self, images: Tensor, task: int | Tensor | None = None) -> Tensor:
        """The reference; stitched towers all run, whichever are asked."""
        chosen = self._asked(images, task)
        if isinstance(chosen, int):
            features = self._features(images, [chosen])[chosen]
            return self.heads.forward_features(features, chosen, None)
        asked = torch.unique(chosen)
        found = self._features(images, asked.tolist())
        stacked = torch.stack([found[one] for one in asked.tolist()])  # [asked, N, features]
        rows = stacked[
            torch.searchsorted(asked, chosen), torch.arange(len(images), device=asked.device)
        ]
        logits: Tensor = self.heads(rows, chosen)
        return logits

    def forward_tasks(self, images: Tensor, tasks: Sequence[int]) -> list[Tensor]:
        for task in tasks:
            self._check_task(task)
        features = self._features(images, list(dict.fromkeys(tasks)))
        logits = self.heads.forward_tasks({task: (features[task], None) for task in tasks})
        return [logits[task] for task in tasks]

    def _features(self, images: Tensor, tasks: Sequence[int]) -> dict[int, Tensor]:
        """By task: pooled features [N, units] of its tower."""
        last = max(map(int, self.stitches), default=-1)
        # Behind the last stitch, and without any, towers that nobody asks are left out.
        running = {
            tower: self.normalise(images, tower)
            for tower in (range(len(self.towers)) if last >= 0 else tasks)
        }
        for index in range(len(self.towers[0])):
            running = {
                tower: self.towers[tower][index](values, 0) for tower, values in running.items()
            }
            if str(index) in self.stitches:
                mixed = self.stitches[str(index)](list(running.values()))
                running = dict(zip(running, mixed, strict=True))
            if index == last:
                running = {tower: running[tower] for tower in tasks}
        return {tower: values.mean(dim=(2, 3)) for tower, values in running.items()}
