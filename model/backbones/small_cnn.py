"""A small CNN for small pictures, such as Fashion-MNIST's: two convolutions, a pool behind each.

The task-routing paper names no layers for its Fashion-MNIST network; these are the usual ones for
28 px, with this project's pooled features and task heads in place of its dense layers.
"""

from __future__ import annotations

from model.backbones.vgg import UNIT_MULTIPLE
from model.conv_layer import LayerShape

SMALL_CNN = "small_cnn"
UNITS = (32, 64)


def small_cnn_layers(width: float, *, batch_norm: bool) -> list[LayerShape]:
    """The convolutions, for images of at least 4 px."""
    layers: list[LayerShape] = []
    in_units = 3
    for full_units in UNITS:
        units = max(UNIT_MULTIPLE, round(full_units * width / UNIT_MULTIPLE) * UNIT_MULTIPLE)
        layers.append(LayerShape(in_units, units, batch_norm=batch_norm, pool=True))
        in_units = units
    return layers
