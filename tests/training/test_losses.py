"""The loss against PyTorch's own, task by task, and what missing labels do to it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from training.losses import masked_loss
from training.sources import MISSING


def test_without_missing_labels_it_is_the_mean_over_all_labels() -> None:
    torch.manual_seed(0)
    binary, multi = torch.randn(6, 1), torch.randn(6, 4)
    labels = torch.stack([torch.randint(0, 2, (6,)), torch.randint(0, 4, (6,))], dim=1)
    expected = (
        F.binary_cross_entropy_with_logits(binary[:, 0], labels[:, 0].float(), reduction="sum")
        + F.cross_entropy(multi, labels[:, 1], reduction="sum")
    ) / 12
    assert masked_loss([binary, multi], labels).item() == pytest.approx(expected.item())


def test_the_order_of_tasks_does_not_matter() -> None:
    torch.manual_seed(0)
    logits = [torch.randn(5, 1), torch.randn(5, 3), torch.randn(5, 1)]
    labels = torch.randint(0, 2, (5, 3))
    turned = masked_loss(logits[::-1], labels.flip(1))
    assert masked_loss(logits, labels).item() == pytest.approx(turned.item())


def test_missing_labels_count_neither_above_nor_below_the_line() -> None:
    torch.manual_seed(0)
    logits = [torch.randn(4, 1), torch.randn(4, 3)]
    labels = torch.tensor([[1, 2], [MISSING, 0], [0, MISSING], [MISSING, MISSING]])
    expected = (
        F.binary_cross_entropy_with_logits(
            logits[0][[0, 2], 0], torch.tensor([1.0, 0.0]), reduction="sum"
        )
        + F.cross_entropy(logits[1][:2], torch.tensor([2, 0]), reduction="sum")
    ) / 4
    assert masked_loss(logits, labels).item() == pytest.approx(expected.item())


def test_missing_labels_get_exactly_no_gradient() -> None:
    logits = [torch.randn(3, 1, requires_grad=True), torch.randn(3, 4, requires_grad=True)]
    labels = torch.tensor([[1, MISSING], [MISSING, 3], [0, 1]])
    masked_loss(logits, labels).backward()  # type: ignore[no-untyped-call]
    assert logits[0].grad is not None
    assert logits[1].grad is not None
    assert (logits[0].grad[1] == 0).all()
    assert (logits[1].grad[0] == 0).all()
    assert (logits[0].grad[[0, 2]] != 0).all()
    assert (logits[1].grad[[1, 2]] != 0).all()


def test_a_batch_without_any_label_gives_zero_not_nan() -> None:
    logits = [torch.randn(3, 1, requires_grad=True), torch.randn(3, 4, requires_grad=True)]
    loss = masked_loss(logits, torch.full((3, 2), MISSING))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert logits[0].grad is not None
    assert (logits[0].grad == 0).all()
