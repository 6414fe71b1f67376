"""Convolutional trunks with routing, by architecture name."""

from __future__ import annotations

from collections.abc import Sequence

from model.backbones.vgg import VGG_BLOCKS, vgg_layers
from model.config import BackboneConfig
from model.conv_layer import LayerShape
from model.errors import ConfigError


def layer_shapes(config: BackboneConfig, image_size: tuple[int, int]) -> Sequence[LayerShape]:
    """The convolutions of the backbone, first to last; ConfigError for an unknown architecture."""
    name = config.arch.removesuffix("_bn")
    if name not in VGG_BLOCKS:
        known = ", ".join(f"{arch}, {arch}_bn" for arch in VGG_BLOCKS)
        raise ConfigError(
            f"arch is {config.arch!r}; known architectures: {known}", arch=config.arch
        )
    return vgg_layers(
        name, config.width, batch_norm=config.arch.endswith("_bn"), image_size=image_size
    )
