"""One convolution of a subnet: cut to the units in use, batch norm folded in.

On CPUs with oneDNN the weights are kept in the library's own blocked order and bias and ReLU are
fused into the call; eager PyTorch would reorder the weights on every call, which costs as much as a
small convolution.
"""

from __future__ import annotations

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from model.conv_layer import RoutedConv

_ONE = [1, 1]


class CutConv:
    """Dense 3x3 convolution -> ReLU -> optional 2x2 max pool, channels last."""

    def __init__(self, weight: Tensor, bias: Tensor, *, pool: bool, size: tuple[int, int]) -> None:
        """``weight``: [out, in, 3, 3]; ``bias``: [out]; ``size``: (height, width) of its input."""
        self.pool = pool
        self.bytes = weight.nbytes + bias.nbytes
        self._bias = bias
        self._fused = _fused_convolution(weight)
        weight = weight.contiguous(memory_format=torch.channels_last)
        if self._fused is not None:
            weight = torch.ops.mkldnn._reorder_convolution_weight(
                weight, _ONE, _ONE, _ONE, 1, [1, weight.shape[1], *size]
            )
        self._weight = weight

    @classmethod
    def cut(
        cls,
        layer: RoutedConv,
        in_units: Tensor | None,
        out_units: Tensor | None,
        norm_row: int,
        *,
        dtype: torch.dtype,
        size: tuple[int, int],
    ) -> Self:
        """The share of ``layer`` that reads ``in_units`` and computes ``out_units`` (None: all)."""
        weight, bias = layer.folded(norm_row, out_units)
        if in_units is not None:
            weight = weight.index_select(1, in_units.to(weight.device))
        return cls(weight.to(dtype), bias.to(dtype), pool=layer.shape.pool, size=size)

    def __call__(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H', W'], both channels last."""
        if self._fused is not None:
            x = self._fused(x, self._weight, self._bias, _ONE, _ONE, _ONE, 1, "relu", [], "")
        else:
            x = F.relu_(F.conv2d(x, self._weight, self._bias, padding=1))
        return F.max_pool2d(x, 2) if self.pool else x


def _fused_convolution(weight: Tensor) -> Any | None:
    """oneDNN's convolution + bias + ReLU, None where this build, device or type lacks it."""
    if weight.device.type != "cpu" or not torch._C._has_mkldnn:
        return None
    supported = weight.dtype == torch.float32 or (
        weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    return torch.ops.mkldnn._convolution_pointwise.default if supported else None
