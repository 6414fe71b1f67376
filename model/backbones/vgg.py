"""VGG (Simonyan and Zisserman, 2015, Table 1, configurations A, B, D, E): the paper's backbone."""

from __future__ import annotations

from model.conv_layer import LayerShape

POOL = 0
VGG_LAYOUTS: dict[str, tuple[int, ...]] = {
    "vgg11": (64, POOL, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL),
    "vgg13": (64, 64, POOL, 128, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL),
    "vgg16": (64, 64, POOL, 128, 128, POOL, *(256,) * 3, POOL, *(512,) * 3, POOL, *(512,) * 3, POOL),
    "vgg19": (64, 64, POOL, 128, 128, POOL, *(256,) * 4, POOL, *(512,) * 4, POOL, *(512,) * 4, POOL),
}  # fmt: skip
UNIT_MULTIPLE = 8


def vgg_layers(
    name: str, width: float, *, batch_norm: bool, image_size: tuple[int, int]
) -> list[LayerShape]:
    """The convolutions of ``name`` for images of (height, width) pixels.

    A pool that would leave less than one pixel is left out, so that images from 28 px up work.
    """
    layers: list[LayerShape] = []
    channels, smaller_side = 3, min(image_size)
    for entry in VGG_LAYOUTS[name]:
        if entry == POOL:
            if smaller_side >= 2:
                layers[-1] = layers[-1].with_pool()
                smaller_side //= 2
            continue
        units = max(UNIT_MULTIPLE, round(entry * width / UNIT_MULTIPLE) * UNIT_MULTIPLE)
        layers.append(LayerShape(channels, units, batch_norm=batch_norm))
        channels = units
    return layers
