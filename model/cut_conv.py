"""One convolution of a subnet: cut to the units in use, batch norm folded in."""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from model.conv_layer import RoutedConv


class CutConv:
    """Dense convolution [N, in, H, W] -> ReLU -> optional 2x2 max pool, channels last."""

    def __init__(self, weight: Tensor, bias: Tensor, *, pool: bool) -> None:
        """``weight``: [out, in, 3, 3]; ``bias``: [out]."""
        self.weight = weight.contiguous(memory_format=torch.channels_last)
        self.bias = bias
        self.pool = pool

    @classmethod
    def cut(
        cls, layer: RoutedConv, in_units: Tensor | None, out_units: Tensor | None, norm_row: int
    ) -> Self:
        """The share of ``layer`` that reads ``in_units`` and computes ``out_units`` (None: all)."""
        weight, bias = layer.folded(norm_row)
        if out_units is not None:
            weight, bias = weight[out_units], bias[out_units]
        if in_units is not None:
            weight = weight[:, in_units]
        return cls(weight, bias, pool=layer.shape.pool)

    @property
    def bytes(self) -> int:
        return self.weight.nbytes + self.bias.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        x = F.relu_(F.conv2d(x, self.weight, self.bias, padding=1))
        return F.max_pool2d(x, 2) if self.pool else x
