"""3x3 convolution by Winograd's minimal filtering F(4x4, 3x3): 36 products where 144 are needed.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), section 4. Each tile of
4x4 outputs comes from 6x6 inputs: both they and the weights are transformed, multiplied point by
point (a matrix product over channels for each of the 36 points), and transformed back. All three
transforms are matrix products too, so the work is done by the BLAS.

The interpolation points are 0, +-5/8, +-3/2 and infinity instead of the usual 0, +-1, +-2: all
entries of the matrices stay small, and the error is a quarter (1e-6 of the result's root mean
square, against 2e-7 for a direct convolution in float32).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from model.conv_layer import LayerShape, RoutedConv
from model.plan import Cut

OUTPUTS = 4  # a tile's side
_INPUTS = OUTPUTS + 2
_POINTS = (Fraction(0), Fraction(5, 8), Fraction(-5, 8), Fraction(3, 2), Fraction(-3, 2))

# Tiles in one matrix product: enough rows to use the weights well, few enough to stay in the cache.
_TILES = 256


# Where it beat the direct convolution when tried, on one processor: enough channels to pay for the
# transforms of activations, enough tiles of one image to pay for reading four times the weights.
_MIN_CHANNELS = 48
_MIN_TILES = 49  # 28 x 28
_COMPILED_MIN_UNITS = 32
_COMPILED_MIN_INPUTS = 5  # fewer have a memory order of their own
_COMPILED_MIN_TILES = 16  # 16 x 16


class WinogradConv:
    """3x3 convolution, padding 1 -> ReLU -> optional 2x2 max pool, channels last, float32."""

    def __init__(self, weight: Tensor, bias: Tensor, *, pool: bool) -> None:
        """``weight``: [out, in, 3, 3]; ``bias``: [out]."""
        self._weight = transform_weight(weight)
        self._bias, self._pool = bias, pool
        self.bytes = self._weight.nbytes + bias.nbytes

    @classmethod
    def cut(cls, layer: RoutedConv, cut: Cut, dtype: torch.dtype) -> Self:
        """The share of ``layer`` that ``cut`` describes."""
        return cls(*cut.folded(layer, dtype), pool=layer.shape.pool)

    def __call__(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H', W'], both channels last."""
        height, width = x.shape[2], x.shape[3]
        tiles = -(-height // OUTPUTS) * -(-width // OUTPUTS)
        blocks = torch.split(x, max(1, _TILES // tiles))
        done = [self._block(block) for block in blocks]
        return done[0] if len(done) == 1 else torch.cat(done)

    def _block(self, x: Tensor) -> Tensor:
        count, channels, height, width = x.shape
        rows, columns = -(-height // OUTPUTS), -(-width // OUTPUTS)
        spread_back, spread = _transforms()
        tiles = _tiles(x, rows, columns)
        points = (spread @ tiles).view(_INPUTS**2, count * rows * columns, channels)
        products = torch.bmm(points, self._weight)
        # [4, 4, N, rows, columns, out] from here on: the place in a tile comes first.
        y = (spread_back @ products.flatten(1)).view(OUTPUTS, OUTPUTS, count, rows, columns, -1)
        if self._pool:  # before bias and ReLU, which keep the order of values: a quarter of them
            y = torch.maximum(y[0::2], y[1::2])
            y = torch.maximum(y[:, 0::2], y[:, 1::2])
            height, width = height // 2, width // 2
        side = y.shape[0]
        out = y.new_empty(count, rows, side, columns, side, y.shape[-1])
        torch.add(y.permute(2, 3, 0, 4, 1, 5), self._bias, out=out)
        out = F.relu_(out).view(count, rows * side, columns * side, -1)
        return out[:, :height, :width].permute(0, 3, 1, 2)


def winograd_pays(cut: Cut, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether ``cut`` is faster this way.

    By the shapes of one image alone: with more images smaller layers would gain too, but then the
    number of rows that happen to share a batch would decide how an image is computed, and weights
    would be transformed in the middle of the traffic.
    """
    if device.type != "cpu" or dtype != torch.float32:
        return False  # bfloat16 has matrix units of its own; GPUs have cuDNN
    return min(cut.inputs, cut.outputs) >= _MIN_CHANNELS and _tiles_of(cut) >= _MIN_TILES


def compiled_winograd_pays(shape: LayerShape, cut: Cut) -> bool:
    """The same for the kernels of :mod:`model.native`.

    By the whole layer's shape, so that a unit is computed alike in every cut that has it: for its
    task alone and together with others.
    """
    wide = min(shape.in_units, shape.units) >= _COMPILED_MIN_UNITS
    return wide and cut.inputs >= _COMPILED_MIN_INPUTS and _tiles_of(cut) >= _COMPILED_MIN_TILES


def _tiles_of(cut: Cut) -> int:
    height, width = cut.size
    return -(-height // OUTPUTS) * -(-width // OUTPUTS)


def winograd_bytes(cut: Cut) -> int:
    """Bytes of the transformed weights."""
    return 4 * _INPUTS**2 * cut.inputs * cut.outputs


def _tiles(x: Tensor, rows: int, columns: int) -> Tensor:
    """[36, N * rows * columns * C]: overlapping 6x6 inputs, the place in a tile first."""
    count, channels, height, width = x.shape
    padded = F.pad(
        x.permute(0, 2, 3, 1),
        (0, 0, 1, 1 + columns * OUTPUTS - width, 1, 1 + rows * OUTPUTS - height),
    )
    image, row, column, channel = padded.stride()
    windows = padded.as_strided(
        (_INPUTS, _INPUTS, count, rows, columns, channels),
        (row, column, image, row * OUTPUTS, column * OUTPUTS, channel),
    )
    return windows.reshape(_INPUTS**2, -1)


def transform_weight(weight: Tensor) -> Tensor:
    """[out, in, 3, 3] -> [36, in, out], in float64 on the way."""
    _, kernel, _ = matrices()
    two = torch.kron(kernel, kernel)  # [36, 9]
    flat = weight.permute(2, 3, 1, 0).reshape(9, -1).double()
    return (two @ flat).view(_INPUTS**2, weight.shape[1], weight.shape[0]).to(weight.dtype)


@cache
def _transforms() -> tuple[Tensor, Tensor]:
    """[16, 36] from products to outputs, [36, 36] from inputs to points; float32."""
    inverse, _, inputs = matrices()
    return torch.kron(inverse, inverse).float(), torch.kron(inputs, inputs).float()


def matrices() -> tuple[Tensor, Tensor, Tensor]:
    """``A^T`` [4, 6], ``G`` [6, 3] and ``B^T`` [6, 6], float64: y = A^T ((G g) * (B^T d)).

    Cook and Toom's construction for the points and infinity: A evaluates polynomials at the points,
    G those of the kernel divided by each point's Lagrange denominator, B the numerators.
    """
    spans = range(len(_POINTS))
    inverse = [[p**power for p in _POINTS] + [Fraction(power == OUTPUTS - 1)]
               for power in range(OUTPUTS)]  # fmt: skip
    kernel, inputs = [], []
    for index in spans:
        others = [_POINTS[other] for other in spans if other != index]
        denominator = Fraction(1)
        for other in others:
            denominator *= _POINTS[index] - other
        kernel.append([_POINTS[index] ** power / denominator for power in range(3)])
        inputs.append([*_polynomial(others), Fraction(0)])
    kernel.append([Fraction(0), Fraction(0), Fraction(1)])
    inputs.append(_polynomial(_POINTS))
    return _tensor(inverse), _tensor(kernel), _tensor(inputs)


def _polynomial(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients, lowest power first, of the product of (x - root)."""
    coefficients = [Fraction(1)]
    for root in roots:
        raised = [Fraction(0), *coefficients]
        lowered = [*(root * value for value in coefficients), Fraction(0)]
        coefficients = [a - b for a, b in zip(raised, lowered, strict=True)]
    return coefficients


def _tensor(rows: Sequence[Sequence[Fraction]]) -> Tensor:
    return torch.tensor([[float(value) for value in row] for row in rows], dtype=torch.float64)
