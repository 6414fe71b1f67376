"""VGG (Simonyan and Zisserman, 2015, Table 1, configurations A, B, D, E): the paper's backbone."""

from __future__ import annotations

from model.conv_layer import LayerShape

BLOCK_UNITS = (64, 128, 256, 512, 512)
# Convolutions per block; a 2x2 max pool ends every block.
VGG_BLOCKS: dict[str, tuple[int, ...]] = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
UNIT_MULTIPLE = 8


def vgg_layers(
    name: str, width: float, *, batch_norm: bool, image_size: tuple[int, int]
) -> list[LayerShape]:
    """The convolutions of ``name`` for images of (height, width) pixels.

    A pool that would leave less than one pixel is left out, so that images from 28 px up work.
    """
    layers: list[LayerShape] = []
    in_units, smaller_side = 3, min(image_size)
    for block_units, depth in zip(BLOCK_UNITS, VGG_BLOCKS[name], strict=True):
        units = max(UNIT_MULTIPLE, round(block_units * width / UNIT_MULTIPLE) * UNIT_MULTIPLE)
        for _ in range(depth):
            layers.append(LayerShape(in_units, units, batch_norm=batch_norm))
            in_units = units
        if smaller_side >= 2:
            layers[-1] = layers[-1].with_pool()
            smaller_side //= 2
    return layers
