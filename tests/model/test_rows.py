from __future__ import annotations

import pytest
import torch

from model.rows import RowBatch


def test_all_pairs_go_image_by_image() -> None:
    images = torch.zeros(2, 28, 28, 3, dtype=torch.uint8)
    batch = RowBatch.all_pairs(images, [5, 0, 7])
    assert len(batch) == 6
    assert batch.image_index.tolist() == [0, 0, 0, 1, 1, 1]
    assert batch.task_index.tolist() == [5, 0, 7, 5, 0, 7]
    assert batch.task_index.dtype == batch.image_index.dtype == torch.int64
    assert batch.images is images


@pytest.mark.parametrize(("images", "tasks"), [(0, [1, 2]), (3, [])])
def test_no_images_or_no_tasks_are_no_rows(images: int, tasks: list[int]) -> None:
    batch = RowBatch.all_pairs(torch.zeros(images, 28, 28, 3, dtype=torch.uint8), tasks)
    assert len(batch) == 0
    assert batch.task_index.dtype == torch.int64


@pytest.mark.parametrize(
    ("image_index", "task_index"),
    [
        (torch.zeros(2), torch.zeros(3)),
        (torch.zeros(2, 1), torch.zeros(2, 1)),
        (torch.tensor(0), torch.tensor(0)),
    ],
)
def test_indices_must_be_vectors_of_one_length(
    image_index: torch.Tensor, task_index: torch.Tensor
) -> None:
    with pytest.raises(ValueError, match="one-dimensional and equally long"):
        RowBatch(torch.zeros(1, 28, 28, 3, dtype=torch.uint8), image_index, task_index)
