"""Rows: (image, task) pairs, the unit in which queues, batches, limits and rates are counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class RowBatch:
    """Row r asks task ``task_index[r]`` of the distinct image ``image_index[r]``."""

    images: Tensor  # uint8 [N, H, W, 3]
    image_index: Tensor  # int64 [R]
    task_index: Tensor  # int64 [R]

    def __post_init__(self) -> None:
        if self.image_index.shape != self.task_index.shape or self.image_index.ndim != 1:
            raise ValueError(
                f"image_index {list(self.image_index.shape)} and task_index "
                f"{list(self.task_index.shape)} must be one-dimensional and equally long"
            )

    def __len__(self) -> int:
        return len(self.task_index)

    @classmethod
    def all_pairs(cls, images: Tensor, tasks: Sequence[int]) -> RowBatch:
        """Every image with every task, image by image."""
        count = len(images)
        return cls(
            images,
            torch.arange(count).repeat_interleave(len(tasks)),
            torch.tensor(list(tasks), dtype=torch.int64).repeat(count),
        )
