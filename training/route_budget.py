"""How many units each routed layer may keep: as the settings say, or from a target cost.

A task's cost is the share of multiply-adds that its own units need in the layers that routes make
cheaper: routed ones, and those that read a routed one. The rest costs the same whatever the routes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from model.backbones import layer_shapes
from model.config import BackboneConfig, ModelConfig, RoutingConfig
from model.conv_layer import LayerShape
from model.errors import ConfigError
from model.routes import keep_by_layer, kept_units
from training.saliency import shares

_HALVINGS = 40
"""Of the interval in which the share of saliency is sought: finer than any unit's share."""


def task_cost(
    shapes: Sequence[LayerShape], size: tuple[int, int], counts: Mapping[int, int]
) -> float:
    """Share of the multiply-adds that one task needs with ``counts`` units in routed layers.

    Args:
        size: height and width of the images in pixels.
        counts: units kept, by the index of the layer.
    """
    own = full = 0
    before = around = -1  # the layers whose results are the input and the residual block's input
    for layer, shape in enumerate(shapes):
        around = before if shape.begins_block else around
        height, width = shape.conv_size(size)
        work = [(before, shape.in_units, shape.kernel**2)]
        if shape.shortcut is not None and shape.shortcut.projected:
            work.append((around, shape.shortcut.in_units, 1))
        for source, inputs, taps in work:
            if layer in counts or source in counts:
                units = counts.get(layer, shape.units)
                own += taps * counts.get(source, inputs) * units * height * width
                full += taps * inputs * shape.units * height * width
        size, before = shape.output_size(size), layer
    return own / full


def kept_counts(config: ModelConfig, routing: RoutingConfig, share: float) -> dict[int, int]:
    """Units per routed layer with keep taken to the power ``share``: 0 keeps all, 1 keeps keep."""
    shapes = _shapes(config)
    keeps = keep_by_layer(routing, len(shapes), [shape.stream for shape in shapes])
    return {
        layer: kept_units(keep**share, shapes[layer].units, routing.unit_multiple)
        for layer, keep in keeps.items()
    }


def counts_for_cost(
    config: ModelConfig, routing: RoutingConfig, scores: Mapping[int, Tensor], target: float
) -> dict[int, int]:
    """Units per routed layer for a task's cost of at most ``target``, by equal saliency.

    Every layer keeps the same share of its saliency (averaged over tasks), the largest share whose
    cost is within the target. A layer in which few units carry the answers gives up most.

    Args:
        scores: saliency by layer, float [tasks, units].

    Raises:
        ConfigError: the smallest routes there are cost more than ``target``.
    """
    check_target_cost(config.backbone, _size(config), routing, target)
    shapes, size = _shapes(config), _size(config)
    curves = {layer: _saliency_kept(one) for layer, one in scores.items()}

    def counts(share: float) -> dict[int, int]:
        return {
            layer: _rounded_up(int((curve < share).sum()) + 1, len(curve), routing.unit_multiple)
            for layer, curve in curves.items()
        }

    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if task_cost(shapes, size, counts(middle)) <= target:
            low = middle
        else:
            high = middle
    return counts(low)


def check_target_cost(
    backbone: BackboneConfig, size: tuple[int, int], routing: RoutingConfig, target: float
) -> None:
    """Refuse a target that not even the smallest routes reach.

    Args:
        size: height and width of the images in pixels.

    Raises:
        ConfigError: names the least that can be asked for.
    """
    shapes = layer_shapes(backbone, size)
    smallest = {
        layer: min(routing.unit_multiple, shapes[layer].units)
        for layer in routing.layers(len(shapes))
    }
    least = task_cost(shapes, size, smallest)
    if least > target:
        raise ConfigError(
            f"target_cost is {target:g}; with {routing.unit_multiple} units per layer, the fewest "
            f"that unit_multiple allows, a task still costs {least:.3g}: raise target_cost, lower "
            "unit_multiple or route more layers",
            target_cost=target,
        )


def _saliency_kept(scores: Tensor) -> Tensor:
    """Mean share of the saliency that a task's best 1, 2, 3 ... units hold: [units], rising."""
    return shares(scores).sort(dim=1, descending=True).values.cumsum(dim=1).mean(dim=0)


def _rounded_up(count: int, units: int, multiple: int) -> int:
    return min(units, -(-count // multiple) * multiple)


def _shapes(config: ModelConfig) -> Sequence[LayerShape]:
    return layer_shapes(config.backbone, _size(config))


def _size(config: ModelConfig) -> tuple[int, int]:
    return config.preprocess.height, config.preprocess.width
