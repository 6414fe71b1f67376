"""One convolution of a subnet: cut to the units in use, batch norm folded in.

On CPUs with oneDNN the weights are kept in the library's own blocked order and bias and ReLU are
fused into the call; eager PyTorch would reorder the weights on every call, which costs as much as a
small convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from model.conv_layer import RoutedConv
from model.plan import Cut

# The pool reads what the convolution wrote: by so many bytes at a time it finds them in the cache.
_BLOCK_BYTES = 2 * 2**20

_ONE = [1, 1]


class CutConv:
    """Dense 3x3 convolution -> ReLU -> optional 2x2 max pool, channels last.

    With several ``cuts`` of one layer, a grouped convolution: each cut reads its own share of the
    input channels and writes its own share of the outputs, with the bits that it gives alone.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, *, groups: int, pool: bool, size: tuple[int, int]
    ) -> None:
        """``weight``: [groups * out, in, 3, 3]; ``bias``: [groups * out]; ``size``: height, width
        of the input."""
        self.pool = pool
        self.bytes = weight.nbytes + bias.nbytes
        self._bias, self._groups = bias, groups
        self._fused = _fused_convolution(weight)
        weight = weight.contiguous(memory_format=torch.channels_last)
        if self._fused is not None:
            weight = torch.ops.mkldnn._reorder_convolution_weight(
                weight, _ONE, _ONE, _ONE, groups, [1, groups * weight.shape[1], *size]
            )
        self._weight = weight

    @classmethod
    def cut(cls, layer: RoutedConv, cuts: Sequence[Cut], dtype: torch.dtype) -> Self:
        """The shares of ``layer`` that ``cuts``, all of equal shape, describe."""
        folded = [cut.folded(layer, dtype) for cut in cuts]
        return cls(
            torch.cat([weight for weight, _ in folded]),
            torch.cat([bias for _, bias in folded]),
            groups=len(cuts),
            pool=layer.shape.pool,
            size=cuts[0].size,
        )

    def __call__(self, x: Tensor) -> Tensor:
        """[N, groups * in, H, W] -> [N, groups * out, H', W'], both channels last."""
        written = len(self._bias) * x.shape[2] * x.shape[3] * x.element_size()  # for one image
        count = max(1, _BLOCK_BYTES // written)
        if not self.pool or len(x) <= count:
            return self._block(x)
        return torch.cat([self._block(block) for block in torch.split(x, count)])

    def _block(self, x: Tensor) -> Tensor:
        if self._fused is not None:
            x = self._fused(
                x, self._weight, self._bias, _ONE, _ONE, _ONE, self._groups, "relu", [], ""
            )
        else:
            x = F.relu_(F.conv2d(x, self._weight, self._bias, padding=1, groups=self._groups))
        return F.max_pool2d(x, 2) if self.pool else x


def fuses(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether convolutions on ``device`` run through oneDNN with fused bias and ReLU."""
    return _fused_convolution(torch.empty(0, device=device, dtype=dtype)) is not None


def _fused_convolution(weight: Tensor) -> Any | None:
    """oneDNN's convolution + bias + ReLU, None where this build, device or type lacks it."""
    if weight.device.type != "cpu" or not torch._C._has_mkldnn:
        return None
    supported = weight.dtype == torch.float32 or (
        weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    return torch.ops.mkldnn._convolution_pointwise.default if supported else None
