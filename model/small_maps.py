"""Convolutions of feature maps of at most 2x2, those of several tasks side by side.

In a map that small a 3x3 kernel reaches every position from every other: the convolution is one
matrix, [positions x inputs, positions x outputs], made of the kernel's taps. Several tasks' are one
batched matrix product, forward and backward, where a convolution each costs a call each, and on so
small a map little else.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MAX_SIDE = 2
# Of the matrices of one product: larger ones fall out of the caches, and gain nothing any more.
_MOST_VALUES = 2**22


def is_small(x: Tensor) -> bool:
    """Whether the maps of ``x`` [N, C, H, W] are small enough for :func:`convolve`."""
    return max(x.shape[2:]) <= _MAX_SIDE


def most_together(x: Tensor, pairs: int) -> int:
    """How many convolutions of maps as large as those of ``x`` should be computed at once, of so
    many pairs of an input and an output unit each."""
    area = x.shape[2] * x.shape[3]
    return max(1, _MOST_VALUES // (area * area * pairs))


def convolve(x: Tensor, weight: Tensor, in_units: Tensor, out_units: Tensor) -> Tensor:
    """3x3 convolutions of stride 1 with one pixel of padding, a part of ``weight`` for each group.

    Args:
        x: [N, G * n, H, W] of at most 2x2, group by group.
        weight: [units, inputs, 3, 3], which all groups' kernels are cut from.
        in_units: int64 [G, n], which inputs each group reads.
        out_units: int64 [G, m], which units each group computes.

    Returns:
        [N, G * m, H, W], group by group.
    """
    batch, _, height, width = x.shape
    (groups, inputs), outputs, area = in_units.shape, out_units.shape[1], height * width
    taps, tap_of = _taps(height, width)
    pairs = (out_units[:, :, None] * weight.shape[1] + in_units[:, None, :]).flatten()
    by_tap = weight.flatten(2).index_select(2, taps.to(x.device)).permute(2, 0, 1).flatten(1)
    kernels = by_tap.index_select(1, pairs).index_select(0, tap_of.to(x.device))
    matrices = (
        kernels.view(area, area, groups, outputs, inputs)
        .permute(2, 0, 4, 1, 3)
        .reshape(groups, area * inputs, area * outputs)
    )
    values = x.reshape(batch, groups, inputs, area).permute(1, 0, 3, 2)
    found = torch.bmm(values.reshape(groups, batch, area * inputs), matrices)
    found = found.view(groups, batch, area, outputs).permute(1, 0, 3, 2)
    return found.reshape(batch, groups * outputs, height, width)


def _taps(height: int, width: int) -> tuple[Tensor, Tensor]:
    """The taps of a 3x3 kernel that a map has a use for, int64 [taps], and which of these leads
    from each position to each, int64 [positions * positions], inputs outermost."""
    row = torch.arange(height).repeat_interleave(width)
    column = torch.arange(width).repeat(height)
    down = row[:, None] - row + 1  # from the output's row to the input's, as the kernel counts
    right = column[:, None] - column + 1
    taps, tap_of = torch.unique(down * 3 + right, return_inverse=True)
    return taps, tap_of.flatten()
