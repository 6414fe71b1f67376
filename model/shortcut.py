"""The way around a residual block: its input as it is, or through a 1x1 convolution.

He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), equations 1 and 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.batch_norm import BatchNorm
from model.errors import ConfigError
from model.unfilled_layers import UnfilledConv2d


@dataclass(frozen=True)
class ShortcutShape:
    """What a block's last convolution adds to its result."""

    in_units: int
    projected: bool  # by a 1x1 convolution with batch norm; else the block's input itself
    stride: int = 1  # of the 1x1 convolution


@dataclass(frozen=True, eq=False)
class Skip:
    """A residual block's input, on its way to the block's last convolution."""

    x: Tensor  # [N, n, H, W]
    units: Tensor | None  # int64 [n]: which of the block's input units these are, None for all


class Shortcut(nn.Module):
    """Adds nothing that the task's route does not have: the routing layer stands behind the sum."""

    select: Tensor | None  # int64 [units]: which input unit is added to which of the block's

    def __init__(self, shape: ShortcutShape, units: int, norm_rows: int, *, own_norm: bool) -> None:
        """``units``: of the block's result; of them an identity may have more only where it is told
        by ``select`` which to add (networks that were cut out of larger ones)."""
        super().__init__()
        self.shape = shape
        self.conv: nn.Conv2d | None = None
        self.norm: BatchNorm | None = None
        if shape.projected:
            self.conv = UnfilledConv2d(shape.in_units, units, 1, stride=shape.stride, bias=False)
            self.norm = BatchNorm(units, norm_rows, own_affine=own_norm)
        narrower = not shape.projected and shape.in_units != units
        self.register_buffer("select", torch.arange(units) if narrower else None)

    def forward(self, x: Tensor, task: int | Tensor) -> Tensor:
        """[N, in_units, H, W] -> [N, units, H', W']."""
        if self.conv is not None and self.norm is not None:
            projected: Tensor = self.norm(self.conv(x), task)
            return projected
        return x if self.select is None else x.index_select(1, self.select)

    def forward_units(self, skip: Skip, out_units: Tensor | None, row: int) -> Tensor:
        """[N, n, H, W] -> [N, len(out_units), H', W']; ``row``: of the statistics."""
        if self.conv is None or self.norm is None:
            chosen = self.chosen(skip.units, out_units)
            return skip.x if chosen is None else skip.x.index_select(1, chosen)
        weight = self.conv.weight
        if out_units is not None:
            weight = weight.index_select(0, out_units)
        if skip.units is not None:
            weight = weight.index_select(1, skip.units)
        x = F.conv2d(skip.x, weight, stride=self.shape.stride)
        return self.norm.forward_units(x, self.norm.row(row), out_units)

    def chosen(self, units: Tensor | None, out_units: Tensor | None) -> Tensor | None:
        """Of an identity: positions in the block's input ``units`` of what ``out_units`` take, None
        for all as they are.

        Raises:
            ConfigError: routes by which the input lacks units of the result.
        """
        wanted = out_units
        if self.select is not None:
            given = out_units if units is None else units
            select = self.select if given is None else self.select.to(given.device)
            wanted = select if out_units is None else select[out_units]
        if wanted is None and units is None:
            return None
        if units is None:
            return wanted
        if wanted is None:
            wanted = torch.arange(self.shape.in_units, device=units.device)
        if torch.equal(wanted, units):
            return None
        positions = torch.searchsorted(units, wanted).clamp(max=len(units) - 1)
        if not torch.equal(units[positions], wanted):
            raise ConfigError(
                "routes of a residual block's result have units that its input lacks: from the "
                "first routed one on, all blocks of a stage must share one route"
            )
        return positions

    def folded(self, row: int, out_units: Tensor | None) -> tuple[Tensor, Tensor] | None:
        """Weight [n, in_units, 1, 1] and bias [n] of ``out_units`` with batch norm folded in; None
        for an identity."""
        if self.conv is None or self.norm is None:
            return None
        weight = self.conv.weight.detach()
        columns = slice(None) if out_units is None else out_units.to(weight.device)
        scale, shift = self.norm.scale_shift(self.norm.row(row))
        return weight[columns] * scale.detach()[columns, None, None, None], shift.detach()[columns]
