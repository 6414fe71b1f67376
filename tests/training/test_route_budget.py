"""Unit counts: what the settings keep, and what a target cost leaves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.backbones import layer_shapes
from model.config import ModelConfig, RoutingConfig
from model.conv_layer import LayerShape
from model.errors import ConfigError
from model.network import build
from model.plan import cost, layer_cost, make_plan, masked_cost
from model.tasks import Task
from training.route_budget import check_target_cost, counts_for_cost, kept_counts, task_cost

SHAPES = (
    LayerShape(3, 8, batch_norm=True, pool=True),
    LayerShape(8, 16, batch_norm=True),
    LayerShape(16, 16, batch_norm=True),
)


def routing(layers: str = "all", multiple: int = 8, **changes: object) -> RoutingConfig:
    return RoutingConfig.model_validate(
        {"scheme": "saliency", "routed_layers": layers, "unit_multiple": multiple} | changes
    )


CONFIG = ModelConfig(tasks=(Task(name="a"), Task(name="b")))  # VGG-11 at 64 px: 64 to 512 units


@pytest.mark.parametrize(
    ("counts", "own", "full"),
    [
        ({2: 4}, 16 * 4 * 25, 16 * 16 * 25),
        ({1: 8, 2: 4}, (8 * 8 + 8 * 4) * 25, (8 * 16 + 16 * 16) * 25),
        # Layer 2 is not routed but reads a routed one.
        ({1: 8}, (8 * 8 + 8 * 16) * 25, (8 * 16 + 16 * 16) * 25),
        ({0: 2}, 3 * 2 * 100 + 2 * 16 * 25, 3 * 8 * 100 + 8 * 16 * 25),
        ({0: 8, 1: 16, 2: 16}, 1, 1),
    ],
)
def test_cost_is_the_multiply_adds_that_routes_save(
    counts: dict[int, int], own: int, full: int
) -> None:
    assert task_cost(SHAPES, (10, 10), counts) == pytest.approx(own / full)


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
@pytest.mark.parametrize("layers", ["all", "last:4"])
def test_cost_of_a_residual_network_is_that_of_its_plan(arch: str, layers: str) -> None:
    config = ModelConfig.model_validate(
        {
            "backbone": {"arch": arch, "width": 0.25},
            "routing": {"routed_layers": layers, "keep": 0.25, "unit_multiple": 1},
            "tasks": [task.model_dump() for task in CONFIG.tasks],
        }
    )
    network = build(config)
    shapes = [layer.shape for layer in network.layers]
    counts = kept_counts(config, config.routing, 1.0)
    same = masked_cost(network).macs - cost(make_plan(network, [0]), [0]).macs
    saved = 1 - task_cost(shapes, (64, 64), counts)
    whole = [
        layer_cost(shape, node.cut.size).macs
        for root in make_plan(network, [0]) for node in root.walk()
        if (shape := shapes[node.cut.layer]) and (
            layers == "all" or node.cut.layer >= len(shapes) - 4
        )
    ]  # fmt: skip
    assert saved * sum(whole) == pytest.approx(same)


def test_the_last_two_of_vgg_at_a_quarter_cost_about_a_sixth() -> None:
    """The first of them reads every unit: a quarter of its work; the second a sixteenth."""
    counts = kept_counts(CONFIG, routing("last:2", keep=0.25), 1.0)
    assert counts == {6: 128, 7: 128}
    cost = task_cost(_vgg(), (64, 64), counts)
    assert cost == pytest.approx((1 / 4 + 1 / 16) / 2)


def test_keep_shrinks_geometrically_from_all_units() -> None:
    two = routing("last:2", keep=(0.25, 0.0625))
    assert kept_counts(CONFIG, two, 0.0) == {6: 512, 7: 512}
    assert kept_counts(CONFIG, two, 0.5) == {6: 256, 7: 128}
    assert kept_counts(CONFIG, two, 1.0) == {6: 128, 7: 32}


def sharp(units: int, useful: int) -> Tensor:
    """Saliency of two tasks that sits in ``useful`` units, not the same ones, of many."""
    scores = torch.full((2, units), 1e-3)
    scores[0, :useful] = 1.0
    scores[1, -useful:] = 5.0
    return scores


@pytest.mark.parametrize("target", [0.02, 0.1, 0.25, 0.5, 0.9])
def test_a_target_cost_is_kept_and_used_up(target: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = {
        layer: torch.rand(2, shape.units, generator=generator) ** 3
        for layer, shape in enumerate(_vgg())
    }
    counts = counts_for_cost(CONFIG, routing(), scores, target)
    cost = task_cost(_vgg(), (64, 64), counts)
    assert cost <= target
    assert cost > 0.8 * target
    for layer, count in counts.items():
        assert count % 8 == 0
        assert 8 <= count <= _vgg()[layer].units


def test_layers_whose_saliency_sits_in_few_units_give_up_most() -> None:
    scores = {6: sharp(512, 16), 7: sharp(512, 256)}
    counts = counts_for_cost(CONFIG, routing("last:2"), scores, 0.2)
    assert counts[6] < counts[7]


def test_every_unit_where_the_target_is_everything() -> None:
    scores = {6: torch.ones(2, 512), 7: torch.ones(2, 512)}
    assert counts_for_cost(CONFIG, routing("last:2"), scores, 1.0) == {6: 512, 7: 512}


def test_layers_without_any_saliency_keep_something() -> None:
    scores = {6: torch.zeros(2, 512), 7: torch.ones(2, 512)}
    counts = counts_for_cost(CONFIG, routing("last:2"), scores, 0.1)
    assert min(counts.values()) >= 8
    assert task_cost(_vgg(), (64, 64), counts) <= 0.1


def test_a_target_below_the_smallest_routes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"target_cost is 0\.001; with 64 units per layer.*costs"):
        check_target_cost(CONFIG.backbone, (64, 64), routing("last:2", multiple=64), 0.001)
    check_target_cost(CONFIG.backbone, (64, 64), routing("last:2", multiple=64), 0.1)


def _vgg() -> list[LayerShape]:
    return list(layer_shapes(CONFIG.backbone, (64, 64)))
