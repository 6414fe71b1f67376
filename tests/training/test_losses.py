"""The loss against PyTorch's own, task by task, and what missing labels do to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.training.conftest import tiny
from training.errors import SettingsError
from training.losses import PLAIN, LossShape, loss_shape, masked_loss, positive_weights
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


SHAPED = LossShape(torch.tensor([3.0, 1.0]), focal_gamma=2.0, smoothing=0.1)


def test_weights_multiply_the_loss_of_positives_only() -> None:
    logits = [torch.tensor([[0.3], [-1.0]]), torch.tensor([[2.0], [0.5]])]
    labels = torch.tensor([[1, 1], [0, 1]])
    shape = LossShape(torch.tensor([4.0, 0.5]))
    single = F.softplus(torch.tensor([[-0.3, -2.0], [-1.0, -0.5]]))
    expected = (single * torch.tensor([[4.0, 0.5], [1.0, 0.5]])).sum() / 4
    assert masked_loss(logits, labels, shape).item() == pytest.approx(expected.item())


def test_weights_follow_their_tasks_into_a_step() -> None:
    shape = LossShape(torch.tensor([4.0, 0.5, 2.0]), 1.0, 0.2)
    chosen = shape.of((2, 0))
    assert chosen.positive_weight is not None
    assert chosen.positive_weight.tolist() == [2.0, 4.0]
    assert (chosen.focal_gamma, chosen.smoothing) == (1.0, 0.2)
    assert PLAIN.of((1, 0)) is PLAIN


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_is_its_formula(gamma: float) -> None:
    torch.manual_seed(0)
    binary, multi = torch.randn(6, 1), torch.randn(6, 4)
    labels = torch.stack([torch.randint(0, 2, (6,)), torch.randint(0, 4, (6,))], dim=1)
    yes = torch.sigmoid(binary[:, 0])
    given = torch.where(labels[:, 0] == 1, yes, 1 - yes)
    among = multi.softmax(dim=1)[torch.arange(6), labels[:, 1]]
    expected = sum(-((1 - p) ** gamma * p.log()).sum() for p in (given, among)) / 12
    found = masked_loss([binary, multi], labels, LossShape(focal_gamma=gamma))
    assert found.item() == pytest.approx(float(expected), rel=1e-5)


def test_focal_loss_has_a_finite_gradient_where_the_network_is_certain() -> None:
    logits = [torch.full((2, 1), 200.0, requires_grad=True), torch.eye(3)[:2].mul(400)]
    logits[1].requires_grad_()
    labels = torch.tensor([[1, 0], [0, 2]])
    masked_loss(logits, labels, LossShape(focal_gamma=0.5)).backward()  # type: ignore[no-untyped-call]
    assert all(one.grad is not None and one.grad.isfinite().all() for one in logits)


def test_smoothing_spreads_a_label_over_the_classes() -> None:
    torch.manual_seed(0)
    binary, multi = torch.randn(3, 1), torch.randn(3, 4)
    labels = torch.tensor([[1, 0], [0, 3], [1, 1]])
    targets = torch.tensor([0.9, 0.1, 0.9])
    among = F.one_hot(labels[:, 1], 4) * 0.8 + 0.05
    expected = (
        F.binary_cross_entropy_with_logits(binary[:, 0], targets, reduction="sum")
        + F.cross_entropy(multi, among, reduction="sum")
    ) / 6
    found = masked_loss([binary, multi], labels, LossShape(smoothing=0.2))
    assert found.item() == pytest.approx(expected.item())


def test_missing_labels_stay_out_of_every_shape() -> None:
    logits = [torch.randn(4, 1, requires_grad=True), torch.randn(4, 3, requires_grad=True)]
    labels = torch.tensor([[1, 2], [MISSING, 0], [0, MISSING], [MISSING, MISSING]])
    loss = masked_loss(logits, labels, SHAPED)
    loss.backward()  # type: ignore[no-untyped-call]
    parts = [
        masked_loss([logits[0][[0, 2]]], labels[[0, 2], :1], SHAPED),
        masked_loss([logits[1][:2]], labels[:2, 1:], SHAPED),
    ]
    assert loss.item() == pytest.approx(sum(part.item() for part in parts) / 2)
    assert logits[0].grad is not None
    assert logits[1].grad is not None
    assert (logits[0].grad[[1, 3]] == 0).all()
    assert (logits[1].grad[[2, 3]] == 0).all()


def test_positive_weights_come_from_observed_labels_within_the_limit() -> None:
    labels = np.full((12, 5), MISSING, np.int16)
    labels[:4, 0] = [1, 0, 0, 0]
    labels[:, 1] = [1] + [0] * 11
    labels[:, 2] = [0] + [1] * 11
    labels[:, 3] = 0
    assert positive_weights(labels, 5.0).tolist() == pytest.approx([3, 5, 0.2, 1, 1])


def test_settings_make_the_shape() -> None:
    labels = np.array([[1], [0], [0]], np.int16)
    plain = loss_shape(tiny(), labels, torch.device("cpu"))
    assert (plain.positive_weight, plain.focal_gamma, plain.smoothing) == (None, 0, 0)
    shaped = tiny(positive_weight_limit=10, focal_gamma=1.5, label_smoothing=0.1)
    shape = loss_shape(shaped, labels, torch.device("cpu"))
    assert shape.positive_weight is not None
    assert shape.positive_weight.tolist() == [2.0]
    assert (shape.focal_gamma, shape.smoothing) == (1.5, 0.1)


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"'positive_weight_limit' is 0\.5.*at least 1"):
        tiny(positive_weight_limit=0.5)
