from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from model.small_maps import convolve, is_small, most_together


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_it_is_a_convolution_of_each_group_s_units(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(7, 5, 3, 3, generator=generator).double().requires_grad_()
    in_units = torch.tensor([[0, 2], [4, 1], [3, 4]])
    out_units = torch.tensor([[6, 0, 1], [2, 3, 4], [0, 5, 6]])
    x = torch.randn(4, 6, *size, generator=generator).double().requires_grad_()

    found = convolve(x, weight, in_units, out_units)
    parts = [
        F.conv2d(x[:, 2 * group : 2 * group + 2], weight[outputs][:, inputs], padding=1)
        for group, (inputs, outputs) in enumerate(zip(in_units, out_units, strict=True))
    ]
    expected = torch.cat(parts, dim=1)
    assert found.shape == (4, 9, *size)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)

    for one, other in zip(
        torch.autograd.grad(found.square().sum(), (x, weight)),
        torch.autograd.grad(expected.square().sum(), (x, weight)),
        strict=True,
    ):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("size", "small"), [((2, 2), True), ((1, 2), True), ((3, 1), False)])
def test_which_maps_are_small(size: tuple[int, int], small: bool) -> None:
    assert is_small(torch.zeros(1, 4, *size)) is small


def test_wide_layers_are_fewer_at_once_and_never_none() -> None:
    x = torch.zeros(1, 4, 2, 2)
    assert most_together(x, 64 * 64) == 64
    assert most_together(x, 256 * 256) == 4
    assert most_together(x, 4096 * 4096) == 1
    assert most_together(torch.zeros(1, 4, 1, 1), 256 * 256) == 64
