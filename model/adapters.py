"""Residual adapters: small 1x1 convolutions of each task's own around a shared convolution.

Rebuffi et al., "Learning multiple visual domains with residual adapters" (NIPS 2017, section 3.1)
behind the convolution (series), and "Efficient parametrization of multi-domain deep neural
networks" (CVPR 2018, section 3.1) beside it (parallel). Their batch norm per domain is that of
:class:`model.batch_norm.BatchNorm` with rows of its own.

An adapter begins as zero, which leaves the shared network as it is. It folds into its task's
subnet: a 1x1 convolution beside a 3x3 one adds to the middle of its kernel, one behind it
multiplies it from the left.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.batch_norm import BatchNorm
from model.routing_layer import TaskRoutingLayer


class ParallelAdapter(nn.Module):
    """``conv(x) + A[task] x``, with the convolution's stride."""

    def __init__(self, tasks: int, in_units: int, units: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.zeros(tasks, units, in_units))

    def forward(
        self, x: Tensor, z: Tensor, task: int | Tensor, route: TaskRoutingLayer | None
    ) -> Tensor:
        """``x``: the convolution's input, ``z``: its output; ``route`` follows behind."""
        return z + _product(self.weight[task], x[:, :, :: self.stride, :: self.stride])

    def forward_units(
        self, x: Tensor, z: Tensor, in_units: Tensor | None, out_units: Tensor | None, task: int
    ) -> Tensor:
        """The same of some units (int64, None for all) of input and output."""
        weight = _cut(self.weight[task], out_units, in_units)
        return z + _product(weight, x[:, :, :: self.stride, :: self.stride])

    def fold(self, weight: Tensor, task: int, out_units: Tensor | None) -> tuple[Tensor, Tensor]:
        """Weight [n, in_units, k, k] of the convolution's ``out_units`` with the adapter, and the
        bias [n] that comes with it."""
        middle = weight.shape[-1] // 2
        folded = weight.clone()
        folded[:, :, middle, middle] += _cut(self.weight[task].detach(), out_units, None)
        return folded, torch.zeros_like(folded[:, 0, 0, 0])


class SeriesAdapter(nn.Module):
    """``z + A[task] norm[task](z)`` behind the convolution ``z``.

    Within the task's route: the adapter reads the units that the task uses and no others, so the
    route stands behind the shared convolution as well as behind the adapter.
    """

    def __init__(self, tasks: int, units: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(tasks, units, units))
        self.norm = BatchNorm(units, tasks, own_affine=True)

    def forward(
        self, x: Tensor, z: Tensor, task: int | Tensor, route: TaskRoutingLayer | None
    ) -> Tensor:
        """``x``: the convolution's input, ``z``: its output; ``route`` follows behind."""
        normed = self.norm(z, task)
        if route is not None:
            normed = route(normed, task)
        return z + _product(self.weight[task], normed)

    def forward_units(
        self, x: Tensor, z: Tensor, in_units: Tensor | None, out_units: Tensor | None, task: int
    ) -> Tensor:
        """The same of some units (int64, None for all) of the output."""
        normed = self.norm.forward_units(z, self.norm.row(task), out_units)
        return z + _product(_cut(self.weight[task], out_units, out_units), normed)

    def fold(self, weight: Tensor, task: int, out_units: Tensor | None) -> tuple[Tensor, Tensor]:
        """Weight [n, in_units, k, k] of the convolution's ``out_units`` with the adapter, and the
        bias [n] that comes with it."""
        columns = slice(None) if out_units is None else out_units
        own = _cut(self.weight[task].detach(), out_units, out_units)
        scale, shift = (
            part.detach()[columns] for part in self.norm.scale_shift(self.norm.row(task))
        )
        added = own @ (weight.flatten(1) * scale[:, None])
        return weight + added.view_as(weight), own @ shift


Adapter = ParallelAdapter | SeriesAdapter


def _product(weight: Tensor, x: Tensor) -> Tensor:
    """[units, in] or [N, units, in] by [N, in, H, W] -> [N, units, H, W]."""
    if weight.ndim == 2:
        return F.conv2d(x, weight[:, :, None, None].to(x.dtype))
    return torch.bmm(weight, x.flatten(2)).view(len(x), -1, *x.shape[2:])


def _cut(weight: Tensor, out_units: Tensor | None, in_units: Tensor | None) -> Tensor:
    """Rows and columns of [units, in]; None for all."""
    if out_units is not None:
        weight = weight.index_select(0, out_units.to(weight.device))
    return weight if in_units is None else weight.index_select(1, in_units.to(weight.device))
