"""Winograd's minimal filtering F(4x4, 3x3): when it pays.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), section 4. Each tile of
4x4 outputs comes from 6x6 inputs: both they and the weights are transformed, multiplied point by
point, summed over the channels, and transformed back: 36 products where 144 are needed.
``model/native/winograd.hpp`` does it.

Its matrices are Cook and Toom's for the points and infinity, y = A^T ((G g) * (B^T d)): A evaluates
polynomials at the points, G those of the kernel divided by each point's Lagrange denominator, B the
numerators. The points are 0, +-5/8, +-3/2 and infinity instead of the usual 0, +-1, +-2: all
entries of the matrices stay small, and the error is a quarter (1e-6 of the result's root mean
square, against 2e-7 for a direct convolution in float32).
"""

from __future__ import annotations

from model.conv_layer import LayerShape
from model.plan import Cut

_TILE = 4  # outputs, along a side

# Where it beat the direct convolution when tried: enough channels to pay for the transforms of the
# activations, enough tiles of one image to pay for the weights'.
_MIN_UNITS = 32
_MIN_INPUTS = 5  # fewer have a memory order of their own
_MIN_TILES = 16  # 16 x 16


def winograd_pays(shape: LayerShape, cut: Cut) -> bool:
    """Whether the compiled kernels compute ``cut`` of a layer of ``shape`` this way.

    By the whole layer's shape, so that a unit is computed alike in every cut that has it, for its
    task alone and together with others; and by the shape of one image, so that the number of rows
    that happen to share a batch does not decide how a row is computed.
    """
    height, width = cut.size
    tiles = -(-height // _TILE) * -(-width // _TILE)
    wide = min(shape.in_units, shape.units) >= _MIN_UNITS
    return wide and cut.inputs >= _MIN_INPUTS and tiles >= _MIN_TILES
