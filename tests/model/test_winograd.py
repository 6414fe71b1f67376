from __future__ import annotations

from model.conv_layer import LayerShape
from model.plan import Cut, make_plan
from model.winograd import winograd_pays
from tests.model.networks import make_network

WIDE = LayerShape(64, 64, batch_norm=True)
NARROW = LayerShape(64, 24, batch_norm=True)


def cuts(keep: float, tasks_alone: bool) -> list[Cut]:
    """Of a network with 64 units in every layer, 64 pixels wide: 64, 32, 16, 16, 8 ..."""
    network = make_network(
        backbone={"units": (64,) * 8},
        preprocess={"height": 64, "width": 64},
        routing={"keep": keep, "unit_multiple": 1},
    )
    (root,) = make_plan(network, range(len(network.tasks)))
    nodes = [root, *(node for node in root.walk() if node.tasks == (0,))]
    return [node.forks[0].alone if tasks_alone else node.cut for node in nodes]


def test_from_16_x_16_pixels_and_5_inputs_on() -> None:
    assert [cut.size[0] for cut in cuts(0.5, True)] == [64, 32, 16, 16, 8, 8, 4, 4]
    paying = [winograd_pays(WIDE, cut) for cut in cuts(0.5, True)]
    assert paying == [False, True, True, True, False, False, False, False]


def test_in_wide_layers_only() -> None:
    assert not any(winograd_pays(NARROW, cut) for cut in cuts(0.5, True))


def test_by_the_layers_shape_however_few_of_its_units_a_cut_has() -> None:
    alone, shared = cuts(0.1, True), cuts(0.1, False)
    assert alone[0].outputs < shared[0].outputs
    assert [winograd_pays(WIDE, cut) for cut in alone] == [
        winograd_pays(WIDE, cut) for cut in shared
    ]
