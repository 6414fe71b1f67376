"""Layers without initial values: nothing is drawn for what is written over."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from model.unfilled_layers import UnfilledConv2d, UnfilledLinear


@pytest.mark.parametrize(
    ("unfilled", "usual"),
    [
        (lambda: UnfilledConv2d(3, 8, 3, bias=False), lambda: nn.Conv2d(3, 8, 3, bias=False)),
        (lambda: UnfilledLinear(5, 2), lambda: nn.Linear(5, 2)),
    ],
)
def test_no_random_number_is_taken_and_values_fit(
    unfilled: Callable[[], nn.Module], usual: Callable[[], nn.Module]
) -> None:
    before = torch.get_rng_state()
    layer = unfilled()
    assert torch.get_rng_state().equal(before)
    filled = usual()
    layer.load_state_dict(filled.state_dict())
    for name, value in layer.state_dict().items():
        assert value.equal(filled.state_dict()[name])
