"""A step through the tasks' own units is a step through the masked network."""

from __future__ import annotations

import pytest
import torch

from model.network import RoutedNetwork
from tests.training.conftest import tiny, tiny_images, tiny_network
from training.steps import Compute, Precision, step_loss

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
