from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.conv_layer import LayerShape, RoutedConv

MASK = torch.tensor([[1, 1, 0, 1, 0, 0], [0, 0, 1, 1, 1, 0]], dtype=torch.bool)


def make(
    *, batch_norm: bool, pool: bool = False, mask: Tensor | None = MASK, rows: int = 1
) -> RoutedConv:
    torch.manual_seed(0)
    layer = RoutedConv(LayerShape(4, 6, batch_norm=batch_norm, pool=pool), mask, rows).double()
    with torch.no_grad():
        for values in layer.parameters():
            values.copy_(torch.randn_like(values))
        if layer.norm is not None:
            layer.norm.running_mean.normal_()
            layer.norm.running_var.uniform_(0.5, 1.5)
    return layer.eval()


def test_only_a_layer_without_norm_has_a_bias() -> None:
    assert make(batch_norm=True).conv.bias is None
    assert make(batch_norm=False).conv.bias is not None
    assert make(batch_norm=False).norm is None


@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_order_is_convolution_norm_route_relu_pool(batch_norm: bool) -> None:
    layer = make(batch_norm=batch_norm, pool=True)
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    expected = F.conv2d(x, layer.conv.weight, layer.conv.bias, padding=1)
    if layer.norm is not None:
        expected = F.batch_norm(
            expected, layer.norm.running_mean[0], layer.norm.running_var[0],
            layer.norm.weight, layer.norm.bias,
        )  # fmt: skip
    expected = F.max_pool2d(F.relu(expected * MASK[1][:, None, None]), 2)
    assert torch.allclose(layer(x, 1), expected)
    assert layer(x, 1).shape == (2, 6, 3, 3)
    assert not layer(x, 1)[:, ~MASK[1]].any()


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("task", [0, 1])
def test_named_units_equal_the_masked_layer(
    batch_norm: bool, pool: bool, training: bool, task: int
) -> None:
    rows = 2 if batch_norm else 1
    masked, cut = (make(batch_norm=batch_norm, pool=pool, rows=rows).train(training) for _ in "ab")
    in_units, out_units = torch.tensor([0, 2, 3]), MASK[task].nonzero().flatten()
    full = torch.zeros(3, 4, 6, 6, dtype=torch.float64)
    full[:, in_units] = torch.randn(3, 3, 6, 6, dtype=torch.float64)
    out = cut.forward_units(full[:, in_units], in_units, out_units, task if rows > 1 else 0)
    expected = masked(full, task)
    assert torch.allclose(out, expected[:, out_units])
    torch.autograd.backward([out.pow(3).sum(), expected.pow(3).sum()])
    for (name, one), other in zip(cut.named_parameters(), masked.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.allclose(one.grad, other.grad), name
        assert not one.grad[~MASK[task]].any()


def test_no_named_units_mean_all() -> None:
    layer = make(batch_norm=True, mask=None)
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    assert torch.allclose(layer.forward_units(x, None, None, 0), layer(x, 0))


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("out_units", [None, torch.tensor([0, 3, 5])])
def test_folded_weights_give_the_evaluation(batch_norm: bool, out_units: Tensor | None) -> None:
    layer = make(batch_norm=batch_norm, mask=None, rows=3)
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    for row in range(3 if batch_norm else 1):
        weight, bias = layer.folded(row, out_units)
        found = F.relu(F.conv2d(x, weight, bias, padding=1))
        assert torch.allclose(found, layer.forward_units(x, None, out_units, row))
        assert not weight.requires_grad


def test_shapes_are_values() -> None:
    shape = LayerShape(3, 8, batch_norm=True)
    assert shape.with_pool() == LayerShape(3, 8, batch_norm=True, pool=True)
    assert not shape.pool
    assert isinstance(RoutedConv(shape, None, 1).conv, nn.Conv2d)
