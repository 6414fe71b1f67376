from __future__ import annotations

import pytest
import torch

from model.upload import upload


def test_on_the_cpu_nothing_is_copied() -> None:
    images = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    assert upload(images, torch.device("cpu")) is images


@pytest.mark.gpu
def test_to_a_gpu_as_it_is() -> None:
    images = torch.randint(0, 256, (3, 8, 8, 3), dtype=torch.uint8)
    found = upload(images, torch.device("cuda"))
    assert found.is_cuda
    assert torch.equal(found.cpu(), images)
