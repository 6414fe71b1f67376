"""A step through the tasks' own units is a step through the masked network."""

from __future__ import annotations

import pytest
import torch

from model.network import RoutedNetwork
from tests.training.conftest import tiny, tiny_images, tiny_network
from training.sources import MISSING
from training.steps import Compute, Precision, labelled_logits, step_loss

FLOAT32: Precision = "float32"
BFLOAT16: Precision = "bfloat16"


def _step(
    network: RoutedNetwork, compute: Compute, precision: Precision = FLOAT32
) -> tuple[float, dict[str, torch.Tensor]]:
    images = tiny_images(12)
    network.train()
    loss = step_loss(
        network,
        torch.from_numpy(images.pixels),
        torch.from_numpy(images.labels[:, [2, 1]].astype("int64")),
        (2, 1),
        compute,
        precision=precision,
    )
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {
        name: torch.zeros_like(one) if one.grad is None else one.grad
        for name, one in network.named_parameters()
    }
    return loss.item(), gradients


@pytest.mark.parametrize("norm", ["batch", "batch_per_task"])
def test_cut_and_masked_have_the_same_loss_and_gradients(norm: str) -> None:
    settings = tiny(norm=norm)
    cut_loss, cut = _step(tiny_network(settings), "cut")
    masked_loss, masked = _step(tiny_network(settings), "masked")
    assert cut_loss == pytest.approx(masked_loss, abs=1e-5)
    for name, gradient in masked.items():
        torch.testing.assert_close(cut[name], gradient, rtol=1e-3, atol=1e-5)
    assert any((gradient != 0).any() for gradient in cut.values())


@pytest.mark.parametrize("compute", ["cut", "masked"])
def test_bfloat16_is_near_float32_and_leaves_weights_and_gradients_float32(
    compute: Compute,
) -> None:
    settings = tiny(arch="vgg11_bn", routed_layers="last:2")
    (exact, _), (near, gradients) = (
        _step(tiny_network(settings), compute, precision) for precision in (FLOAT32, BFLOAT16)
    )
    assert near != exact
    assert near == pytest.approx(exact, rel=0.05)
    assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}


def _by_domain(network: RoutedNetwork, compute: Compute, *, labelled_only: bool) -> torch.Tensor:
    """Gradients of a step in which the first seven images have labels of tasks 0 and 2 only."""
    images = tiny_images(12)
    labels = torch.from_numpy(images.labels.astype("int64"))
    labels[:7, 1] = labels[7:, 0] = labels[7:, 2] = MISSING
    network.train()
    loss = step_loss(
        network, torch.from_numpy(images.pixels), labels, (0, 1, 2), compute,
        labelled_only=labelled_only,
    )  # fmt: skip
    loss.backward()  # type: ignore[no-untyped-call]
    return torch.cat([loss.detach()[None], *(
        one.grad.flatten() for one in network.parameters() if one.grad is not None
    )])  # fmt: skip


@pytest.mark.parametrize("compute", ["cut", "masked"])
def test_pairs_without_a_label_are_not_run_and_not_missed(compute: Compute) -> None:
    """Without batch norm, in which images see each other, it is the step of all pairs."""
    settings = tiny(arch="vgg11")
    expected = _by_domain(tiny_network(settings), "cut", labelled_only=False)
    found = _by_domain(tiny_network(settings), compute, labelled_only=True)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_masked_pairs_of_all_domains_are_one_batch() -> None:
    network = tiny_network(tiny(norm="batch")).train()
    images = tiny_images(4)
    labels = torch.tensor([[1, MISSING, 0]] * 2 + [[MISSING, 2, MISSING]] * 2)
    pixels = torch.from_numpy(images.pixels)
    found = labelled_logits(network, pixels, labels, (0, 1, 2), "masked")
    rows, tasks = torch.tensor([0, 0, 1, 1, 2, 3]), torch.tensor([0, 2, 0, 2, 1, 1])
    expected = tiny_network(tiny(norm="batch")).train()(pixels[rows], tasks)
    assert [one.shape for one in found] == [(4, 1), (4, 3), (4, 1)]
    torch.testing.assert_close(found[0][:2, 0], expected[[0, 2], 0])
    torch.testing.assert_close(found[1][2:], expected[4:])
    assert not found[1][:2].any()
