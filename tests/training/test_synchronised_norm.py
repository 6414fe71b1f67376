"""Batch norm of shares is batch norm of the whole batch: value, gradients, running statistics."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.training.conftest import tiny, tiny_network
from tests.training.process_threads import together
from training.distributed import Processes
from training.synchronised_norm import batch_norm_over, one_batch


def parameters() -> tuple[Tensor, Tensor]:
    weight = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
    bias = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    return weight, bias


def batch(count: int) -> tuple[Tensor, Tensor]:
    """Values [N, 3, 4, 5] far from 0, and the gradient that comes back."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, 3, 4, 5)
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    return 50 + 3 * values, torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("processes", "images"), [(2, 7), (3, 8), (2, 2)])
def test_shares_are_normalised_as_one_batch(processes: int, images: int) -> None:
    values, gradient = batch(images)
    x = values.clone().requires_grad_()
    weight, bias = parameters()
    mean, var = torch.zeros(3).double(), torch.ones(3).double()
    whole = F.batch_norm(x, mean, var, weight, bias, training=True, momentum=0.3, eps=1e-5)
    whole.backward(gradient)  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert weight.grad is not None
    assert bias.grad is not None

    def share(one: Processes) -> tuple[Tensor, ...]:
        rows = one.part(images).rows
        own = values[rows].clone().requires_grad_()
        scale, shift = parameters()
        running_mean, running_var = torch.zeros(3).double(), torch.ones(3).double()
        out = batch_norm_over(
            one, own, running_mean, running_var, scale, shift,
            training=True, momentum=0.3, eps=1e-5,
        )  # fmt: skip
        out.backward(gradient[rows])  # type: ignore[no-untyped-call]
        assert own.grad is not None
        assert scale.grad is not None
        assert shift.grad is not None
        return out.detach(), own.grad, scale.grad, shift.grad, running_mean, running_var

    parts = together(processes, share)
    close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
    close(torch.cat([part[0] for part in parts]), whole.detach())
    close(torch.cat([part[1] for part in parts]), x.grad)
    close(torch.stack([part[2] for part in parts]).sum(dim=0), weight.grad)
    close(torch.stack([part[3] for part in parts]).sum(dim=0), bias.grad)
    for part in parts:
        close(part[4], mean)
        close(part[5], var)


def test_bfloat16_keeps_its_type_and_float32_statistics() -> None:
    values, gradient = batch(4)

    def share(one: Processes) -> Tensor:
        rows = one.part(4).rows
        own = values[rows].bfloat16().requires_grad_()
        mean, var = torch.zeros(3), torch.ones(3)
        out = batch_norm_over(
            one, own, mean, var, torch.ones(3), torch.zeros(3),
            training=True, momentum=1.0, eps=1e-5,
        )  # fmt: skip
        out.backward(gradient[rows].bfloat16())  # type: ignore[no-untyped-call]
        assert out.dtype == torch.bfloat16
        assert own.grad is not None
        assert own.grad.dtype == torch.bfloat16
        return mean

    expected = values.bfloat16().float().mean(dim=(0, 2, 3))
    for mean in together(2, share):
        torch.testing.assert_close(mean, expected)


def test_running_statistics_are_not_for_sharing() -> None:
    with pytest.raises(ValueError, match=r"use F\.batch_norm"):
        batch_norm_over(
            Processes(), torch.zeros(2, 1, 1, 1), torch.zeros(1), torch.ones(1), torch.ones(1),
            torch.zeros(1), training=False, momentum=0.1, eps=1e-5,
        )  # fmt: skip


def test_layers_are_left_as_they_were() -> None:
    def share(one: Processes) -> None:
        network = tiny_network(tiny())
        norms = [layer.norm for layer in network.layers]
        with one_batch(network, one):
            assert all(norm is not None and norm.over_processes for norm in norms)
        assert not any(norm is not None and norm.over_processes for norm in norms)

    together(2, share)
    network = tiny_network(tiny())
    with one_batch(network, Processes()):
        norm = network.layers[0].norm
        assert norm is not None
        assert norm.over_processes is None
