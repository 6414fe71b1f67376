"""A residual network's convolution in a subnet: any kernel and stride, what came around added."""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from model.channels import take_channels
from model.conv_layer import LayerShape, RoutedConv, pooled
from model.cut_conv import fuses
from model.plan import Cut

_ONE = [1, 1]


class CutResidual:
    """Dense convolution (-> + block's input) -> ReLU -> optional max pool, channels last."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        shape: LayerShape,
        size: tuple[int, int],
        around: tuple[Tensor, Tensor] | None,
        select: Tensor | None,
    ) -> None:
        """``weight``: [out, in, k, k]; ``bias``: [out]; ``size``: height and width of the input.

        Args:
            around: weight [out, in, 1, 1] and bias [out] of the shortcut's convolution; None where
                the block's input is added as it is, or nothing.
            select: channels of the block's input that an identity adds, None for all.
        """
        self._shape, self._select = shape, select
        self._around: _Convolution | None = None
        if around is not None and shape.shortcut is not None:
            # The block's input is larger by the stride.
            height, width = shape.conv_size(size)
            stride = shape.shortcut.stride
            before = (height * stride, width * stride)
            self._around = _Convolution(around[0], around[1] + bias, stride, before)
            bias = torch.zeros_like(bias)
        self._main = _Convolution(weight, bias, shape.stride, size)
        self.bytes = self._main.bytes + (self._around.bytes if self._around else 0)

    @classmethod
    def cut(cls, layer: RoutedConv, cut: Cut, dtype: torch.dtype) -> Self:
        """The share of ``layer`` that ``cut`` describes."""
        weight, bias = cut.folded(layer, dtype)
        if (shortcut := cut.shortcut) is None:
            return cls(weight, bias, layer.shape, cut.size, None, None)
        around = shortcut.folded(layer, cut.row, cut.out_units, dtype)
        return cls(weight, bias, layer.shape, cut.size, around, shortcut.select)

    def __call__(self, x: Tensor, block_input: Tensor | None) -> Tensor:
        """[N, in, H, W] -> [N, out, H', W'], both channels last.

        ``block_input``: of the residual block that this layer ends: [N, its units, H'', W''].
        """
        added: Tensor | None = None
        if self._shape.shortcut is not None and block_input is not None:
            if self._around is not None:
                added = self._around(block_input, None, "none")
            else:
                added = block_input
                if self._select is not None:
                    added = take_channels(added, self._select)
        return pooled(self._main(x, added, "relu"), self._shape)


class _Convolution:
    """With oneDNN: weights in its blocked order, bias, sum and ReLU fused into the call."""

    def __init__(self, weight: Tensor, bias: Tensor, stride: int, size: tuple[int, int]) -> None:
        self.bytes = weight.nbytes + bias.nbytes
        self._bias, self._stride = bias, [stride, stride]
        self._padding = [weight.shape[2] // 2] * 2
        self._fused = fuses(weight.device, weight.dtype)
        inputs = weight.shape[1]
        weight = weight.contiguous(memory_format=torch.channels_last)
        if self._fused:
            weight = torch.ops.mkldnn._reorder_convolution_weight(
                weight, self._padding, self._stride, _ONE, 1, [1, inputs, *size]
            )
        self._weight = weight

    def __call__(self, x: Tensor, added: Tensor | None, activation: str) -> Tensor:
        """``activation``: "relu" or "none"."""
        parts = (self._weight, self._bias, self._padding, self._stride, _ONE, 1)
        if not self._fused:
            weight, bias, padding, stride, dilation, groups = parts
            y = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
            y = y if added is None else y.add_(added)
            return F.relu_(y) if activation == "relu" else y
        fused = torch.ops.mkldnn._convolution_pointwise
        if added is None:
            plain: Tensor = fused.default(x, *parts, activation, [], "")
            return plain
        summed: Tensor = fused.binary(x, added, *parts, "add", 1.0, activation, [], "")
        return summed
