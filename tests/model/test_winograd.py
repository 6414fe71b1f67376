from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.plan import make_plan
from model.winograd import WinogradConv, matrices, winograd_pays
from tests.model.networks import make_network

CPU = torch.device("cpu")


def test_the_matrices_compute_a_correlation() -> None:
    # Lavin and Gray (2015), equation 5: y = A^T ((G g) * (B^T d)), here in one dimension.
    inverse, kernel, inputs = matrices()
    generator = torch.Generator().manual_seed(0)
    d = torch.randn(6, dtype=torch.float64, generator=generator)
    g = torch.randn(3, dtype=torch.float64, generator=generator)
    found = inverse @ ((kernel @ g) * (inputs @ d))
    expected = torch.stack([(d[start : start + 3] * g).sum() for start in range(4)])
    assert torch.allclose(found, expected, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 6),
    inputs=st.integers(1, 20),
    outputs=st.integers(1, 20),
    height=st.integers(2, 23),
    width=st.integers(2, 23),
    pool=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_shape_equals_the_direct_convolution(
    count: int, inputs: int, outputs: int, height: int, width: int, pool: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, 3, 3, generator=generator)
    bias = torch.randn(outputs, generator=generator)
    x = torch.randn(count, inputs, height, width, generator=generator)
    found = WinogradConv(weight, bias, pool=pool)(x.contiguous(memory_format=torch.channels_last))
    expected = _direct(x.double(), weight.double(), bias.double(), pool)
    scale = expected.abs().max().clamp(min=1.0)
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() / scale) < 1e-5


def test_the_error_of_a_wide_layer_is_a_few_units_of_the_last_place() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 256, 3, 3, generator=generator) / 48
    x = torch.randn(1, 256, 28, 28, generator=generator).relu()
    found = WinogradConv(weight, torch.zeros(64), pool=False)(x)
    expected = _direct(x.double(), weight.double(), torch.zeros(64).double(), False)
    error = (found - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert float(error) < 2e-6


def test_only_wide_layers_of_many_tiles_in_float32_on_a_cpu() -> None:
    network = make_network(
        backbone={"width": 1.0}, preprocess={"height": 56, "width": 56}, routing={"keep": 1.0}
    )
    (root,) = make_plan(network, range(len(network.tasks)))
    cuts = [node.cut for node in root.walk()]
    paying = [winograd_pays(cut, CPU, torch.float32) for cut in cuts]
    # 3 inputs; 28 x 28 with 64; 14 x 14 and below.
    assert paying == [False, True] + [False] * 6
    assert not winograd_pays(cuts[1], CPU, torch.bfloat16)
    assert not winograd_pays(cuts[1], torch.device("cuda"), torch.float32)


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_output_is_channels_last(channels_last: bool) -> None:
    order = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(2, 5, 8, 8).contiguous(memory_format=order)
    y = WinogradConv(torch.randn(7, 5, 3, 3), torch.zeros(7), pool=True)(x)
    assert y.is_contiguous(memory_format=torch.channels_last)


def _direct(x: Tensor, weight: Tensor, bias: Tensor, pool: bool) -> Tensor:
    x = F.relu(F.conv2d(x, weight, bias, padding=1))
    return F.max_pool2d(x, 2) if pool else x
