"""Batch norm over a batch that is spread over processes.

Statistics of a share alone would make a run depend on the number of processes, and small shares
would train worse than the whole batch does. torch.nn.SyncBatchNorm does the same as this, on CUDA
devices only and with one set of statistics.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from model.batch_norm import BatchNorm
from model.task_network import TaskNetwork
from training.distributed import Processes


@contextlib.contextmanager
def one_batch(network: TaskNetwork, processes: Processes) -> Iterator[None]:
    """While entered, forward passes in training mode take the shares of all processes as one batch.

    All processes must run the same passes, backward as well.
    """
    if processes.count == 1:
        yield
        return
    layers = [module for module in network.modules() if isinstance(module, BatchNorm)]
    for layer in layers:
        layer.over_processes = partial(batch_norm_over, processes)
    try:
        yield
    finally:
        for layer in layers:
            layer.over_processes = None


def batch_norm_over(
    processes: Processes,
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """torch.nn.functional.batch_norm in training mode, of the shares of all processes together.

    Args:
        x: this process's share [N, C, H, W]; shares may differ in N.
        running_mean: [C], updated in place, like ``running_var``.
    """
    if not training:
        raise ValueError("running statistics need no other process: use F.batch_norm")
    out, mean, var = _BatchNormOver.apply(x, weight, bias, eps, processes)
    running_mean.lerp_(mean.to(running_mean), momentum)
    running_var.lerp_(var.to(running_var), momentum)
    normalised: Tensor = out
    return normalised


class _BatchNormOver(torch.autograd.Function):
    """One exchange each way: means, variances and counts forward; two sums backward."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, processes: Processes
    ) -> tuple[Tensor, Tensor, Tensor]:
        values = x.to(weight.dtype)  # bfloat16 is too coarse for sums
        var, mean = torch.var_mean(values, dim=(0, 2, 3), correction=0)
        own = torch.cat([mean, var, mean.new_tensor([x.numel() // x.shape[1]])])
        told = processes.gather(own)  # [processes, 2 C + 1]
        means, variances = told[:, :-1].chunk(2, dim=1)
        counts, total = told[:, -1:], told[:, -1].sum()
        mean = (counts * means).sum(dim=0) / total
        # Between the shares as well as within them (Chan et al., 1979); nothing cancels out.
        var = (counts * (variances + (means - mean) ** 2)).sum(dim=0) / total
        scale = (var + eps).rsqrt()
        normalised = (values - _wide(mean)) * _wide(scale)
        ctx.save_for_backward(normalised, weight, scale, total)
        ctx.processes = processes
        unbiased = var * total / (total - 1)
        ctx.mark_non_differentiable(mean, unbiased)
        out = normalised * _wide(weight) + _wide(bias)
        return out.to(x.dtype), mean, unbiased

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        normalised, weight, scale, total = ctx.saved_tensors
        gradient = gradients[0].to(weight.dtype)
        by_bias = gradient.sum(dim=(0, 2, 3))
        by_weight = (gradient * normalised).sum(dim=(0, 2, 3))
        summed = ctx.processes.add_up(torch.cat([by_bias, by_weight]))
        mean, slope = (summed / total).chunk(2)
        by_x = _wide(weight * scale) * (gradient - _wide(mean) - normalised * _wide(slope))
        # Those of the weights are this share's: all gradients are added up after the step.
        return by_x.to(gradients[0].dtype), by_weight, by_bias, None, None


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None]
