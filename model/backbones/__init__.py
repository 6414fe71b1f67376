"""Convolutional trunks with routing, by architecture name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from model.backbones.resnet import RESNETS, resnet_layers
from model.backbones.small_cnn import SMALL_CNN, small_cnn_layers
from model.backbones.vgg import VGG_BLOCKS, vgg_layers
from model.config import BackboneConfig
from model.conv_layer import LayerShape
from model.errors import ConfigError


def layer_shapes(config: BackboneConfig, image_size: tuple[int, int]) -> Sequence[LayerShape]:
    """The convolutions of the backbone, first to last; ConfigError for an unknown architecture."""
    name = config.arch.removesuffix("_bn")
    if config.arch in RESNETS:
        shapes = resnet_layers(config)
    elif name in (*VGG_BLOCKS, SMALL_CNN):
        shapes = _chain(name, config, image_size)
    else:
        chains = [f"{arch}, {arch}_bn" for arch in (*VGG_BLOCKS, SMALL_CNN)]
        known = ", ".join([*chains, *RESNETS])
        raise ConfigError(
            f"arch is {config.arch!r}; known architectures: {known}", arch=config.arch
        )
    return _with_units(shapes, config.units) if config.units else shapes


def _chain(name: str, config: BackboneConfig, image_size: tuple[int, int]) -> list[LayerShape]:
    if config.adapters != "none" or config.stem != "standard":
        raise ConfigError(
            f"arch is {config.arch!r}, but adapters is {config.adapters!r} and stem "
            f"{config.stem!r}: only a resnet has either ({', '.join(RESNETS)})",
            arch=config.arch,
        )
    batch_norm, own_norm = config.arch.endswith("_bn"), config.norm == "batch_per_domain"
    if own_norm and not batch_norm:
        raise ConfigError(
            f"arch is {config.arch!r} without batch norm, but norm is 'batch_per_domain'; take "
            f"{name}_bn",
            arch=config.arch,
        )
    if name == SMALL_CNN:
        shapes = small_cnn_layers(config.width, batch_norm=batch_norm)
    else:
        shapes = vgg_layers(name, config.width, batch_norm=batch_norm, image_size=image_size)
    return [replace(shape, own_norm=True) for shape in shapes] if own_norm else shapes


def _with_units(shapes: Sequence[LayerShape], units: Sequence[int]) -> list[LayerShape]:
    """The same convolutions one behind the other, with other numbers of units."""
    if len(units) != len(shapes):
        raise ConfigError(
            f"units has {len(units)} numbers; the backbone has {len(shapes)} convolutions",
            units=list(units),
        )
    layers: list[LayerShape] = []
    before = around = shapes[0].in_units
    for shape, own in zip(shapes, units, strict=True):
        around = before if shape.begins_block else around
        shortcut = shape.shortcut and replace(shape.shortcut, in_units=around)
        layers.append(replace(shape, in_units=before, units=own, shortcut=shortcut))
        before = own
    return layers
