from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.routing_layer import TaskRoutingLayer

MASK = torch.tensor([[1, 0, 1, 0], [0, 1, 1, 0], [1, 1, 1, 1]], dtype=torch.bool)


def test_units_of_the_task_pass_and_the_others_are_zero() -> None:
    x = torch.randn(2, 4, 3, 3)
    out = TaskRoutingLayer(MASK)(x, 0)
    assert torch.equal(out[:, [0, 2]], x[:, [0, 2]])
    assert torch.equal(out[:, [1, 3]], torch.zeros(2, 2, 3, 3))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=6), st.integers(0, 2))
def test_a_row_vector_is_each_task_on_its_own(tasks: list[int], dimensions: int) -> None:
    layer = TaskRoutingLayer(MASK)
    x = torch.randn(len(tasks), 4, *(2, 3)[:dimensions])
    together = layer(x, torch.tensor(tasks))
    alone = torch.cat([layer(x[row : row + 1], task) for row, task in enumerate(tasks)])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("task", [0, torch.tensor([0, 0])])
def test_gradients_of_unused_units_are_exactly_zero_whatever_their_values(
    task: int | Tensor,
) -> None:
    values = torch.randn(2, 4, 3, 3)
    values[:, 1], values[:, 3] = math.nan, math.inf
    x = values.clone().requires_grad_()
    out = TaskRoutingLayer(MASK)(x, task)
    assert bool(out.isfinite().all())
    # A function whose slope is not zero at zero: the mask must do it, not a ReLU behind it.
    (out.sin() + out.exp()).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad[:, [1, 3]], torch.zeros(2, 2, 3, 3))
    assert bool((x.grad[:, [0, 2]] != 0).all())


def test_it_is_out_of_place() -> None:
    x = torch.randn(2, 4, 3, 3)
    before = x.clone()
    out = TaskRoutingLayer(MASK)(x, 0)
    assert torch.equal(x, before)
    assert out.data_ptr() != x.data_ptr()


def test_gradients_agree_with_multiplication_for_finite_values() -> None:
    layer = TaskRoutingLayer(MASK)
    x = torch.randn(2, 4)
    y = x.clone()
    x.requires_grad_()
    y.requires_grad_()
    (selected,) = torch.autograd.grad(F.gelu(layer(x, 1)).sum(), x)
    (multiplied,) = torch.autograd.grad(F.gelu(y * MASK[1]).sum(), y)
    assert torch.equal(selected, multiplied)


def test_the_mask_is_a_saved_buffer_and_no_parameter() -> None:
    layer = TaskRoutingLayer(MASK)
    assert list(layer.parameters()) == []
    assert list(layer.state_dict()) == ["mask"]
    assert layer.state_dict()["mask"].dtype == torch.bool
    other = TaskRoutingLayer(~MASK[:2].flip(0) | MASK[:1])
    assert not torch.equal(other.mask, MASK[:2])
    other.load_state_dict({"mask": MASK[:2]})
    assert torch.equal(other.mask, MASK[:2])
    assert torch.equal(copy.deepcopy(layer).mask, MASK)


def test_changing_the_given_mask_later_changes_nothing() -> None:
    given_mask = MASK.clone()
    layer = TaskRoutingLayer(given_mask)
    given_mask[:] = False
    assert torch.equal(layer.mask, MASK)


def test_half_precision_stays_half() -> None:
    out = TaskRoutingLayer(MASK)(torch.randn(2, 4, 2, 2, dtype=torch.bfloat16), 0)
    assert out.dtype == torch.bfloat16
    assert TaskRoutingLayer(MASK).half().mask.dtype == torch.bool


@pytest.mark.parametrize(
    "mask", [MASK.float(), MASK[0], MASK[None], MASK.to(torch.uint8)], ids=lambda m: str(m.dtype)
)
def test_masks_of_another_kind_are_refused(mask: Tensor) -> None:
    with pytest.raises(ValueError, match="mask must be bool"):
        TaskRoutingLayer(mask)


def test_a_task_without_units_is_refused() -> None:
    with pytest.raises(ValueError, match="without units"):
        TaskRoutingLayer(torch.tensor([[True, False], [False, False]]))


def test_it_says_its_size() -> None:
    assert "tasks=3, units=4" in repr(TaskRoutingLayer(MASK))
