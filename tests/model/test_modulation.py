from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.config import ModelConfig, ModulationKind, RoutingConfig
from model.conv_layer import LayerShape, RoutedConv
from model.modulation import Modulation
from model.network import RoutedNetwork
from model.route_tree import Branch
from tests.model.networks import make_config, make_network, random_images

KINDS: tuple[ModulationKind, ...] = ("scale", "scale_shift")


def drawn(kind: ModulationKind) -> Modulation:
    torch.manual_seed(0)
    modulation = Modulation(kind, tasks=3, units=4)
    with torch.no_grad():
        for table in modulation.parameters():
            table.normal_()
    return modulation


@pytest.mark.parametrize("kind", KINDS)
def test_it_begins_as_the_identity(kind: ModulationKind) -> None:
    x = torch.randn(2, 4, 5, 5)
    modulation = Modulation(kind, tasks=3, units=4)
    assert torch.equal(modulation(x, 1), x)
    assert len(list(modulation.parameters())) == (2 if kind == "scale_shift" else 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_or_one_per_row_or_some_units_give_the_same_bits(kind: ModulationKind) -> None:
    modulation, x = drawn(kind), torch.randn(3, 4, 5, 5)
    expected = x * modulation.scale[2][:, None, None]
    if modulation.shift is not None:
        expected = expected + modulation.shift[2][:, None, None]
    assert torch.equal(modulation(x, 2), expected)
    tasks = torch.tensor([2, 0, 2])
    mixed = modulation(x, tasks)
    for row, task in enumerate(tasks.tolist()):
        assert torch.equal(mixed[row], modulation(x, task)[row])
    units = torch.tensor([0, 3])
    assert torch.equal(modulation.forward_units(x[:, units], 2, units), expected[:, units])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_layer_modulates_behind_batch_norm_and_in_front_of_the_route(
    kind: ModulationKind, batch_norm: bool
) -> None:
    mask = torch.tensor([[1, 1, 0, 1], [0, 1, 1, 0]], dtype=torch.bool)
    layer = RoutedConv(LayerShape(3, 4, batch_norm=batch_norm), mask, 1, kind).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for value in layer.parameters():
            value.normal_()
    assert layer.modulation is not None
    x = torch.randn(2, 3, 6, 6)
    normed: Tensor = layer.conv(x) if layer.norm is None else layer.norm(layer.conv(x), 1)
    expected = layer.modulation(normed, 1).relu() * mask[1][:, None, None]
    assert torch.allclose(layer(x, 1), expected, atol=1e-6)
    assert not layer(x, 1)[:, ~mask[1]].any()  # whatever the shift
    weight, bias = layer.folded(1)
    folded = torch.nn.functional.conv2d(x, weight, bias, padding=1).relu()
    assert torch.allclose(folded[:, mask[1]], expected[:, mask[1]], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_part_before_the_first_modulated_convolution(kind: ModulationKind) -> None:
    network = make_network(routing={"routed_layers": "last:3", "modulation": kind, "keep": 1.0})

    def at(layer: int) -> list[Branch]:
        return [one for root in network.tree(range(5)) for one in root.walk() if one.layer == layer]

    assert [len(at(layer)) for layer in range(8)] == [1] * 5 + [5] * 3
    assert {branch.row for branch in at(5)} == set(range(5))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep", [0.5, 1.0])
def test_only_the_asked_task_s_row_gets_a_gradient_the_same_in_both_ways(
    kind: ModulationKind, keep: float
) -> None:
    network = make_network(routing={"modulation": kind, "keep": keep}).train()
    images = random_images(network, 4)
    tables = [one for name, one in network.named_parameters() if "modulation" in name]
    assert len(tables) == 8 * (2 if kind == "scale_shift" else 1)
    cut = torch.autograd.grad(network.forward_cut(images, 2).sum(), tables)
    masked = torch.autograd.grad(network(images, 2).sum(), tables)
    for one, other in zip(cut, masked, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-3)
        assert not one[[0, 1, 3, 4]].any()
    assert any(one[2].any() for one in cut)


def test_routes_may_bring_a_modulation_and_keep_the_one_there_is() -> None:
    network = make_network(routing={"routed_layers": "none"})
    layer = network.layers[7]
    routes = [*[None] * 7, torch.ones(5, layer.shape.units, dtype=torch.bool)]
    routing = RoutingConfig(routed_layers="last:1", keep=1.0, modulation="scale_shift")
    before = network(images := random_images(network, 2), 1)
    network.set_routes(routing, routes)
    assert torch.equal(network(images, 1), before)
    first = layer.modulation
    network.set_routes(routing, routes)
    assert layer.modulation is first is not None


def test_a_config_says_so_only_where_there_is_one() -> None:
    plain = make_config()
    assert "modulation" not in plain.to_json()
    assert "keep_schedule" not in plain.to_json()
    config = make_config(routing={"modulation": "scale"})
    assert ModelConfig.from_json(config.to_json()) == config
    assert not any("modulation" in name for name in RoutedNetwork(plain).state_dict())
