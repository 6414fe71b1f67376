"""One routed convolution: conv -> batch norm (-> modulation) -> TRL -> ReLU (-> max pool).

The paper's Figure 3 with its ablation's rival in the same place (:mod:`model.modulation`). The last
convolution of a residual block adds what came around the block in front of the TRL, so that a
task's route is that of the sum; an adapter (:mod:`model.adapters`) belongs to the convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.adapters import Adapter, ParallelAdapter, SeriesAdapter
from model.batch_norm import BatchNorm
from model.config import AdapterKind, ModulationKind
from model.modulation import Modulation
from model.route_tree import Branch, unit_table
from model.routing_layer import TaskRoutingLayer
from model.shortcut import Shortcut, ShortcutShape, Skip
from model.small_maps import convolve
from model.unfilled_layers import UnfilledConv2d


@dataclass(frozen=True)
class LayerShape:
    """A convolution of a backbone, before any route is drawn."""

    in_units: int
    units: int
    batch_norm: bool
    pool: bool = False  # max pool of stride 2 behind the ReLU
    pool_size: int = 2  # its side in pixels
    kernel: int = 3
    stride: int = 1
    begins_block: bool = False  # a residual one, whose shortcut takes this layer's input
    shortcut: ShortcutShape | None = None  # of the residual block that this layer ends
    stream: int | None = None  # layers with the same one share a route (see backbones.resnet)
    adapter: AdapterKind = "none"
    own_norm: bool = False  # every task has its own batch norm, scale and shift included

    def with_pool(self) -> LayerShape:
        return replace(self, pool=True)

    @property
    def plain(self) -> bool:
        """A 3x3 convolution that keeps the size, a ReLU, maybe a 2x2 pool: what special kernels
        are written for."""
        return (self.kernel, self.stride, self.pool_size) == (3, 1, 2) and self.shortcut is None

    def conv_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the convolution's output, in front of a pool."""
        height, width = size
        return (height - 1) // self.stride + 1, (width - 1) // self.stride + 1

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the layer's output for an input of ``size``."""
        height, width = self.conv_size(size)
        if not self.pool:
            return height, width
        beyond = self.pool_size // 3  # an odd window is centred, one pixel beyond the edge
        return (height + beyond) // 2, (width + beyond) // 2


class RoutedConv(nn.Module):
    """A convolution in which a task may use a share of the input and output units.

    Two ways to the same numbers: :meth:`forward` computes every unit and masks (the paper's way,
    the reference); :meth:`forward_units` computes the named units only, from the named inputs only.
    """

    def __init__(
        self,
        shape: LayerShape,
        mask: Tensor | None,
        norm_rows: int,
        modulation: ModulationKind = "none",
        tasks: int = 1,
    ) -> None:
        """``mask``: bool [tasks, units], None where the layer is not routed, nor modulated;
        ``tasks``: how many, for adapters."""
        super().__init__()
        self.shape = shape
        # Left uninitialised: `build` draws the weights, `Bundle.network` loads them. With batch
        # norm a bias would be lost in the mean.
        self.conv: nn.Conv2d = UnfilledConv2d(
            shape.in_units, shape.units, shape.kernel, stride=shape.stride,
            padding=shape.kernel // 2, bias=not shape.batch_norm,
        )  # fmt: skip
        self.adapter = _adapter(shape, tasks)
        self.norm = (
            BatchNorm(shape.units, norm_rows, own_affine=shape.own_norm)
            if shape.batch_norm
            else None
        )
        self.shortcut = (
            None
            if shape.shortcut is None
            else Shortcut(shape.shortcut, shape.units, norm_rows, own_norm=shape.own_norm)
        )
        self.modulation: Modulation | None = None
        self.route: TaskRoutingLayer | None = None
        self._set_route(mask, modulation)

    def set_route(
        self, mask: Tensor | None, norm_rows: int, modulation: ModulationKind = "none"
    ) -> None:
        """Exchange the route and the number of rows of statistics.

        Parameters stay the same; a modulation that was not there begins as the identity.
        """
        self._set_route(mask, modulation)
        for norm in self.norms():
            norm.set_rows(norm_rows)

    def _set_route(self, mask: Tensor | None, modulation: ModulationKind) -> None:
        device = self.conv.weight.device
        self.route = None if mask is None else TaskRoutingLayer(mask.to(device))
        if mask is None or modulation == "none":
            self.modulation = None
        elif self.modulation is None:
            self.modulation = Modulation(modulation, *mask.shape).to(device)

    def norms(self) -> list[BatchNorm]:
        """Behind the convolution and behind that of the shortcut, where there are any."""
        around = None if self.shortcut is None else self.shortcut.norm
        return [norm for norm in (self.norm, around) if norm is not None]

    @property
    def per_task(self) -> bool:
        """Whether tasks differ before the route: by statistics, modulation or adapter."""
        norm_per_task = any(norm.per_task for norm in self.norms())
        return norm_per_task or self.modulation is not None or self.adapter is not None

    def row(self, task: int) -> int:
        """What :meth:`forward_units` takes as ``row`` for ``task``."""
        return task if self.per_task else 0

    def forward(self, x: Tensor, task: int | Tensor, skip: Tensor | None = None) -> Tensor:
        """[N, in_units, H, W] -> [N, units, H', W'], the task's unused units exactly zero.

        ``skip``: the input of the residual block that this layer ends; others ignore it.
        """
        z = self.conv(x)
        if self.adapter is not None:
            z = self.adapter(x, z, task, self.route)
        if self.norm is not None:
            z = self.norm(z, task)
        if self.modulation is not None:
            z = self.modulation(z, task)
        if self.shortcut is not None and skip is not None:
            z = z + self.shortcut(skip, task)
        if self.route is not None:
            z = self.route(z, task)
        return self._activate(z)

    def forward_units(
        self,
        x: Tensor,
        in_units: Tensor | None,
        out_units: Tensor | None,
        row: int,
        skip: Skip | None = None,
    ) -> Tensor:
        """[N, len(in_units), H, W] -> [N, len(out_units), H', W']; None means all units.

        ``row``: the task where the layer is :attr:`per_task`, else 0.
        ``skip``: the input of the residual block that this layer ends; others ignore it.
        Autograd scatters the gradients back into the full weights.
        """
        weight, bias = self.conv.weight, self.conv.bias
        if out_units is not None:
            weight = weight.index_select(0, out_units)
            bias = bias.index_select(0, out_units) if bias is not None else None
        if in_units is not None:
            weight = weight.index_select(1, in_units)
        shape = self.shape
        z = F.conv2d(x, weight, bias, stride=shape.stride, padding=shape.kernel // 2)
        if self.adapter is not None:
            z = self.adapter.forward_units(x, z, in_units, out_units, row)
        if self.norm is not None:
            z = self.norm.forward_units(z, self.norm.row(row), out_units)
        if self.modulation is not None:
            z = self.modulation.forward_units(z, row, out_units)
        if self.shortcut is not None and skip is not None:
            z = z + self.shortcut.forward_units(skip, out_units, row)
        return self._activate(z)

    @property
    def runs_side_by_side(self) -> bool:
        """Whether :meth:`forward_side_by_side` knows all that this layer does."""
        own_statistics = self.norm is None or self.norm.per_task
        extra = self.adapter or self.modulation or self.shape.begins_block
        return self.shape.plain and own_statistics and not extra

    def forward_side_by_side(self, x: Tensor, branches: Sequence[Branch]) -> Tensor:
        """:meth:`forward_units` of several branches of equal sizes at once, on small maps.

        Args:
            x: [N, input units of the first branch, then of the next, ..., H, W], where
                :func:`model.small_maps.is_small`.

        Returns:
            [N, output units of the first branch, then of the next, ..., H', W'].
        """
        inputs, outputs = self.shape.in_units, self.shape.units
        in_units = unit_table([branch.in_units for branch in branches], inputs, x.device)
        out_units = unit_table([branch.out_units for branch in branches], outputs, x.device)
        z = convolve(x, self.conv.weight, in_units, out_units)
        if self.conv.bias is not None:
            z = z + self.conv.bias[out_units.flatten(), None, None]
        if self.norm is not None:
            z = self.norm.forward_side_by_side(z, [branch.row for branch in branches], out_units)
        return self._activate(z)

    def _activate(self, x: Tensor) -> Tensor:
        return pooled(F.relu(x), self.shape)

    def folded(self, row: int, out_units: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Weight [n, in_units, k, k] and bias [n] of ``out_units``, with the adapter, batch norm
        and modulation folded in; without the shortcut (:meth:`model.shortcut.Shortcut.folded`)."""
        weight, bias = self.conv.weight.detach(), self.conv.bias
        columns = slice(None) if out_units is None else out_units.to(weight.device)
        if self.norm is None and self.modulation is None:
            plain = torch.zeros_like(weight[:, 0, 0, 0]) if bias is None else bias.detach()
            return weight[columns], plain[columns]
        scale, shift = (part.detach()[columns] for part in self.scale_shift(row))
        if self.adapter is None:
            return weight[columns] * scale[:, None, None, None], shift
        weight, added = self.adapter.fold(weight[columns], row, out_units)
        return weight * scale[:, None, None, None], added * scale + shift

    def scale_shift(self, row: int) -> tuple[Tensor, Tensor]:
        """Evaluation behind the bare convolution as ``scale * x + shift``, each [units]."""
        if self.norm is not None:
            scale, shift = self.norm.scale_shift(self.norm.row(row))
        else:
            scale = torch.ones_like(self.conv.weight[:, 0, 0, 0])
            shift = torch.zeros_like(scale) if self.conv.bias is None else self.conv.bias
        return (
            (scale, shift) if self.modulation is None else self.modulation.fold(row, scale, shift)
        )


def pooled(x: Tensor, shape: LayerShape) -> Tensor:
    """``x`` behind the layer's max pool, where it has one."""
    if not shape.pool:
        return x
    return F.max_pool2d(x, shape.pool_size, stride=2, padding=shape.pool_size // 3)


def _adapter(shape: LayerShape, tasks: int) -> Adapter | None:
    if shape.adapter == "parallel":
        return ParallelAdapter(tasks, shape.in_units, shape.units, shape.stride)
    return SeriesAdapter(tasks, shape.units) if shape.adapter == "series" else None
