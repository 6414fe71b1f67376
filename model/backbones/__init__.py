"""Convolutional trunks with routing, by architecture name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from model.backbones.small_cnn import SMALL_CNN, small_cnn_layers
from model.backbones.vgg import VGG_BLOCKS, vgg_layers
from model.config import BackboneConfig
from model.conv_layer import LayerShape
from model.errors import ConfigError


def layer_shapes(config: BackboneConfig, image_size: tuple[int, int]) -> Sequence[LayerShape]:
    """The convolutions of the backbone, first to last; ConfigError for an unknown architecture."""
    name = config.arch.removesuffix("_bn")
    if name not in (*VGG_BLOCKS, SMALL_CNN):
        known = ", ".join(f"{arch}, {arch}_bn" for arch in (*VGG_BLOCKS, SMALL_CNN))
        raise ConfigError(
            f"arch is {config.arch!r}; known architectures: {known}", arch=config.arch
        )
    batch_norm = config.arch.endswith("_bn")
    if name == SMALL_CNN:
        shapes = small_cnn_layers(config.width, batch_norm=batch_norm)
    else:
        shapes = vgg_layers(name, config.width, batch_norm=batch_norm, image_size=image_size)
    return _with_units(shapes, config.units) if config.units else shapes


def _with_units(shapes: Sequence[LayerShape], units: Sequence[int]) -> list[LayerShape]:
    """The same convolutions one behind the other, with other numbers of units."""
    if len(units) != len(shapes):
        raise ConfigError(
            f"units has {len(units)} numbers; the backbone has {len(shapes)} convolutions",
            units=list(units),
        )
    inputs = (shapes[0].in_units, *units[:-1])
    return [
        replace(shape, in_units=before, units=own)
        for shape, before, own in zip(shapes, inputs, units, strict=True)
    ]
