"""ResNets: their tables, the rule of routes, and one answer whatever runs the rows."""

from __future__ import annotations

import copy
import importlib

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.backbones import layer_shapes
from model.config import BackboneConfig, HeadConfig, ModelConfig, PreprocessConfig, RoutingConfig
from model.errors import ConfigError
from model.extraction import cut_out
from model.network import RoutedNetwork, build
from model.plan import cost, make_plan, masked_cost
from model.rows import RowBatch
from model.strategies import STRATEGIES, make_forward, sample_batch
from model.subnet_forward import SubnetForward
from model.subnet_module import SubnetModule, SubnetsModule
from model.tasks import Task
from model.weight_cache import WeightCache
from tests.model.networks import make_config, make_network, random_images, randomised
from tests.model.test_strategies import CLASSES, TOLERANCE, largest_difference, random_rows

SLOW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
ENDS_18 = [[0, 2, 4], [6, 8], [10, 12], [14, 16]]  # the streams of resnet18, by layer
WIDTHS = {"resnet18": 0.125, "resnet26": 0.25, "resnet50": 0.125}


@st.composite
def backbones(draw: st.DrawFn) -> BackboneConfig:
    arch = draw(st.sampled_from(list(WIDTHS)))
    norm = draw(st.sampled_from(["batch", "batch_per_task", "batch_per_domain"]))
    kinds = ["none", "series", "parallel"] if norm == "batch_per_domain" else ["none"]
    stem = draw(st.sampled_from(["standard", "standard", "small"]))
    return BackboneConfig.model_validate(
        {"arch": arch, "width": WIDTHS[arch], "norm": norm, "stem": stem,
         "adapters": draw(st.sampled_from(kinds))}
    )  # fmt: skip


configs = st.builds(
    ModelConfig,
    backbone=backbones(),
    routing=st.builds(
        RoutingConfig,
        scheme=st.sampled_from(["independent", "partition", "tree"]),
        keep=st.sampled_from([0.25, 0.5, 1.0]),
        keep_schedule=st.sampled_from(["constant", "falling", "rising"]),
        routed_layers=st.sampled_from(["all", "last:1", "last:2", "last:3", "last:7", "none"])
        | st.sampled_from([(1, 3, 5), (15,), (0, 2, 4)]),
        group_layers=st.integers(0, 6),
        modulation=st.sampled_from(["none", "scale", "scale_shift"]),
        seed=st.integers(0, 99),
        unit_multiple=st.sampled_from([1, 2]),
    ),
    head=st.builds(HeadConfig, embedding=st.sampled_from([0, 4])),
    preprocess=st.builds(
        PreprocessConfig, height=st.sampled_from([28, 33]), width=st.sampled_from([28, 32])
    ),
    tasks=st.lists(st.sampled_from(CLASSES), min_size=1, max_size=5).map(
        lambda kinds: tuple(
            Task(name=f"t{i}", group=f"g{i % 2}", classes=kind) for i, kind in enumerate(kinds)
        )
    ),
)


def made(config: ModelConfig, seed: int = 0) -> RoutedNetwork | None:
    """None where the drawn parts do not go together, which other tests are about."""
    try:
        network = randomised(build(config, seed), seed)
    except ConfigError:
        return None
    # Random batch norm lets activations grow from block to block: logits of one unit or less, for
    # a limit on probabilities to be one on rounding.
    with torch.no_grad():
        found = network.forward_tasks(random_images(network, 2), range(len(config.tasks)))
        size = max(float(one.abs().max()) for one in found)
        network.heads.weight.div_(max(1.0, size))
        network.heads.bias.div_(max(1.0, size))
    return network


def torchvisions(arch: str) -> torch.nn.Module:
    """torchvision's network; it has no types."""
    made: torch.nn.Module = importlib.import_module("torchvision.models").get_model(arch)
    return made


# --- tables ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("arch", "layers", "macs"), [("resnet18", 17, 1.81e9),
                                                       ("resnet50", 49, 4.09e9)])  # fmt: skip
def test_they_are_torchvisions(arch: str, layers: int, macs: float) -> None:
    there = torchvisions(arch)
    config = make_config(
        backbone={"arch": arch, "width": 1.0},
        routing={"routed_layers": "none"},
        preprocess={"height": 224, "width": 224},
    )
    here = RoutedNetwork(config)
    trunk = sum(p.numel() for name, p in there.named_parameters() if not name.startswith("fc."))
    assert here.parameter_counts()["trunk"] == trunk
    assert len(here.layers) == layers
    assert masked_cost(here).macs == pytest.approx(macs, rel=0.01)


def test_the_small_stem_keeps_the_size() -> None:
    for arch, units in (("resnet18", 64), ("resnet26", 32)):
        stem, first = layer_shapes(BackboneConfig(arch=arch, stem="small"), (32, 32))[:2]
        assert (stem.kernel, stem.stride, stem.pool, stem.units) == (3, 1, False, units)
        assert stem.output_size((33, 32)) == (33, 32)
        assert first.in_units == units
    stem = layer_shapes(BackboneConfig(arch="resnet50"), (32, 32))[0]
    assert stem.conv_size((33, 64)) == (17, 32)
    assert stem.output_size((33, 64)) == (9, 16)


def test_sizes_are_those_of_the_activations() -> None:
    for stem in ("standard", "small"):
        network = make_network(
            backbone={"arch": "resnet18", "width": 0.125, "stem": stem},
            preprocess={"height": 33, "width": 28},
        )
        x, size = network.normalise(random_images(network, 1)), (33, 28)
        for index, found, _ in network.run(x, range(17), 0):
            size = network.layers[index].shape.output_size(size)
            assert found.shape[2:] == size


def test_blocks_begin_where_their_input_is() -> None:
    network = make_network(
        backbone={"arch": "resnet50", "width": 0.125}, routing={"routed_layers": "last:2"}
    )
    assert [network.block_start(layer) for layer in range(8)] == [0, 1, 1, 1, 4, 4, 4, 7]
    assert network.block_start(49) == 49
    assert network.first_own == 47
    chain = make_network(routing={"routed_layers": "last:2"})
    assert [chain.block_start(layer) for layer in range(9)] == list(range(9))
    assert chain.first_own == 6
    assert make_network(routing={"routed_layers": "none"}).first_own == 8


# --- the rule of routes ----------------------------------------------------------------------


@pytest.mark.parametrize("arch", list(WIDTHS))
@pytest.mark.parametrize("scheme", ["independent", "partition", "tree"])
def test_a_stages_blocks_share_a_route_and_their_insides_do_not(arch: str, scheme: str) -> None:
    network = make_network(
        backbone={"arch": arch, "width": WIDTHS[arch]},
        routing={"scheme": scheme, "group_layers": 4, "keep": 0.4},
    )
    streams: dict[int, list[Tensor]] = {}
    inside: list[Tensor] = []
    for layer, mask in zip(network.layers, network.routes, strict=True):
        assert mask is not None
        stream = layer.shape.stream
        (inside if stream is None else streams.setdefault(stream, [])).append(mask)
    for masks in streams.values():
        assert all(torch.equal(mask, masks[0]) for mask in masks)
    assert not all(
        torch.equal(mask, inside[-1]) for mask in inside if mask.shape == inside[-1].shape
    )
    assert not torch.equal(streams[0][0][0], streams[0][0][1])


def test_the_streams_of_resnet18_are_its_stages_and_the_stem() -> None:
    shapes = layer_shapes(BackboneConfig(arch="resnet18"), (64, 64))
    streams = [[i for i, one in enumerate(shapes) if one.stream == s] for s in range(4)]
    assert streams == ENDS_18
    assert [i for i, one in enumerate(shapes) if one.stream is None] == [*range(1, 16, 2)]
    fifty = layer_shapes(BackboneConfig(arch="resnet50"), (64, 64))
    assert fifty[0].stream is None  # its first block changes the units: a 1x1 convolution
    assert [i for i, one in enumerate(fifty) if one.stream == 0] == [3, 6, 9]


def test_an_unused_unit_is_zero_and_every_used_one_is_carried_through_its_stage() -> None:
    network = make_network(backbone={"arch": "resnet18", "width": 0.25}, routing={"keep": 0.5})
    x = network.normalise(random_images(network, 2))
    block_input, inputs = x, {}
    with torch.no_grad():
        for index, layer in enumerate(network.layers):
            block_input = x if layer.shape.begins_block else block_input
            x = layer(x, 1, block_input)
            mask = network.routes[index]
            assert mask is not None
            assert not x[:, ~mask[1]].any()
            inputs[index] = block_input
    # Where a block computes nothing, what comes out is what came in: the identity path is whole.
    for end in (8, 12, 16):
        layer, mask = network.layers[end], network.routes[end]
        assert layer.norm is not None
        assert mask is not None
        with torch.no_grad():
            layer.norm.weight.zero_()
            layer.norm.bias.zero_()
            out = layer(torch.zeros_like(inputs[end]), 1, inputs[end])
        assert torch.equal(out, inputs[end])
        assert out[:, mask[1]].any()


def test_routing_may_begin_within_a_stage() -> None:
    network = make_network(
        backbone={"arch": "resnet18", "width": 0.25}, routing={"routed_layers": "last:2"}
    )
    assert [mask is not None for mask in network.routes] == [False] * 15 + [True] * 2
    (root,) = make_plan(network, range(5))
    ends = [node.cut for node in root.walk() if node.cut.layer == 16]
    assert len(ends) == 5
    for task, cut in enumerate(ends):
        mask = network.routes[16]
        assert mask is not None
        assert cut.shortcut is not None
        assert cut.shortcut.in_units is None  # the whole stream
        assert cut.shortcut.select is not None  # of which the identity takes the route's units
        assert cut.shortcut.select.tolist() == mask[task].nonzero().flatten().tolist()


@pytest.mark.parametrize("layers", [(14,), (0, 4), (6,), (2, 3)])
def test_a_stream_that_is_routed_and_then_whole_again_is_refused(layers: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"blocks of one stage and share one route.*; add "):
        make_network(backbone={"arch": "resnet18"}, routing={"routed_layers": layers})


def test_a_stream_keeps_what_its_last_layer_keeps() -> None:
    routing = {"keep": 0.25, "keep_schedule": "falling", "unit_multiple": 1}
    network = make_network(backbone={"arch": "resnet18", "width": 1.0}, routing=routing)
    for number, ends in enumerate(ENDS_18):
        share = 0.25 ** ((ends[-1] + 1) / 17)
        mask = network.routes[ends[0]]
        assert mask is not None
        assert int(mask[0].sum()) == round(share * 64 * 2**number)
    listed = [0.5] * 17
    listed[14] = 0.25
    with pytest.raises(ConfigError, match=r"keep is 0.25 for layer 14 and 0.5 for layer 16"):
        make_network(backbone={"arch": "resnet18"}, routing={"keep": listed})


def test_given_routes_that_break_the_rule_are_refused() -> None:
    config = make_config(backbone={"arch": "resnet18", "width": 0.25})
    routes = [None if one is None else one.clone() for one in build(config).routes]
    last = routes[16]
    assert last is not None
    last[0] = last[0].roll(1)
    with pytest.raises(ConfigError, match=r"layers 14 and 16 differ.*share one route"):
        RoutedNetwork(config, routes)


# --- one answer ------------------------------------------------------------------------------


@SLOW
@given(
    config=configs,
    images=st.integers(1, 3),
    rows=st.integers(1, 12),
    workers=st.sampled_from([1, 2]),
    seed=st.integers(0, 1000),
)
def test_every_strategy_gives_the_masked_answer(
    config: ModelConfig, images: int, rows: int, workers: int, seed: int
) -> None:
    network = made(config, seed)
    if network is None:
        return
    batch = random_rows(network, images, rows, seed)
    reference = make_forward(network, "masked")(batch)
    for name in ("mixed", "subnet"):
        found = make_forward(network, name, workers=workers)(batch)
        assert largest_difference(network, batch, reference, found) <= TOLERANCE, name


@SLOW
@given(config=configs, task=st.integers(0, 4), training=st.booleans(), seed=st.integers(0, 99))
def test_cut_training_is_masked_training(
    config: ModelConfig, task: int, training: bool, seed: int
) -> None:
    network = made(config, seed)
    if network is None:
        return
    task %= len(network.tasks)
    masked = network.double().train(training)
    cut = copy.deepcopy(masked)
    images = random_images(network, 3)
    expected, found = masked(images, task), cut.forward_cut(images, task)
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-6)
    for one in (expected, found):
        one.pow(2).sum().backward()
    by_name = dict(masked.named_parameters())
    for name, parameter in cut.named_parameters():
        wanted = by_name[name].grad
        wanted = torch.zeros_like(parameter) if wanted is None else wanted
        got = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        scale = 1e-4 * (1 + float(wanted.abs().max()))
        assert torch.allclose(got, wanted, rtol=0, atol=scale), name


@SLOW
@given(config=configs, seed=st.integers(0, 99))
def test_several_tasks_at_once_answer_as_one_by_one(config: ModelConfig, seed: int) -> None:
    network = made(config, seed)
    if network is None:
        return
    network = network.double()
    images, tasks = random_images(network, 2), range(len(network.tasks))
    with torch.no_grad():
        for task, found in zip(tasks, network.forward_tasks(images, tasks), strict=True):
            assert torch.allclose(found, network(images, task), rtol=1e-8, atol=1e-8)


def test_neighbours_change_nothing() -> None:
    network = make_network(
        backbone={"arch": "resnet18", "width": 0.25}, routing={"routed_layers": "last:5"}
    )
    for name in STRATEGIES:
        forward = make_forward(network, name)
        batch = random_rows(network, images=3, rows=10, seed=1)
        together = forward(batch)
        for row in range(len(batch)):
            single = RowBatch(
                batch.images, batch.image_index[row : row + 1], batch.task_index[row : row + 1]
            )
            alone = forward(single)
            assert largest_difference(network, single, together[row : row + 1], alone) <= TOLERANCE


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_in_bfloat16_it_is_near(arch: str) -> None:
    network = make_network(backbone={"arch": arch, "width": 0.125})
    batch = sample_batch(network, 2, tasks=5)
    expected = make_forward(network, "masked")(batch)
    found = make_forward(network, "subnet", dtype=torch.bfloat16)(batch)
    real = expected.isfinite()
    limit = 0.05 * float(expected[real].abs().max())
    assert torch.allclose(found[real], expected[real], rtol=0, atol=limit)
    assert not torch.equal(found, expected)


# --- the parts around ------------------------------------------------------------------------


def test_plan_and_cost_count_shortcuts() -> None:
    network = make_network(backbone={"arch": "resnet50", "width": 0.125}, routing={"keep": 1.0})
    roots = make_plan(network, range(5))
    assert cost(roots, range(5)) == masked_cost(network)
    counted = sum(
        one.weight.numel() for one in network.modules() if isinstance(one, torch.nn.Conv2d)
    )
    biases = sum(layer.shape.units for layer in network.layers)
    assert masked_cost(network).weights == counted + biases
    half = make_network(
        backbone={"arch": "resnet50", "width": 0.25}, routing={"keep": 0.5, "unit_multiple": 1}
    )
    inner = masked_cost(half).macs
    alone = cost(make_plan(half, [0]), [0]).macs
    assert 0.24 < alone / inner < 0.30


def test_cut_weights_stay_within_the_budget() -> None:
    network = make_network(backbone={"arch": "resnet18", "width": 0.25}, routing={"keep": 0.5})
    cache = WeightCache(budget_bytes=200_000)
    forward = SubnetForward(network, torch.device("cpu"), cache=cache)
    batch = sample_batch(network, 1, tasks=5)
    expected = make_forward(network, "masked")(batch)
    for _ in range(2):
        assert largest_difference(network, batch, expected, forward(batch)) <= TOLERANCE
        assert 0 < cache.held_bytes <= 200_000
    assert forward.kernels == "pytorch"
    forward.close()


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
@pytest.mark.parametrize("routed_layers", ["all", "last:2", "last:3"])
@pytest.mark.parametrize("tasks", [[1], [4, 0, 1]])
def test_cut_out_tasks_answer_as_in_the_network(
    arch: str, routed_layers: str, tasks: list[int]
) -> None:
    network = make_network(
        backbone={"arch": arch, "width": 0.125, "norm": "batch_per_task"},
        routing={"routed_layers": routed_layers},
    )
    small = cut_out(network, tasks)
    again = cut_out(small, [0])
    images = random_images(network, 2)
    with torch.inference_mode():
        together = SubnetsModule(small, range(len(tasks)))(images)
        for index, task in enumerate(tasks):
            expected = network(images, task)
            limit = 1e-5 * float(expected.abs().max())
            for found in (small(images, index), small.forward_cut(images, index), together[index]):
                assert torch.allclose(found, expected, rtol=0, atol=limit)
        first = network(images, tasks[0])
        limit = 1e-5 * float(first.abs().max())
        for found in (again(images, 0), SubnetModule(network, tasks[0])(images)):
            assert torch.allclose(found, first, rtol=0, atol=limit)
    if len(tasks) == 1 and routed_layers == "all":
        assert masked_cost(small).macs < 0.35 * masked_cost(network).macs


@pytest.mark.parametrize("arch", ["resnet18_bn", "resnet34"])
def test_an_unknown_one_is_refused_with_the_known_ones(arch: str) -> None:
    with pytest.raises(ConfigError, match="resnet18, resnet26, resnet50"):
        layer_shapes(BackboneConfig(arch=arch), (64, 64))


@pytest.mark.parametrize("parts", [{"stem": "small"}, {"adapters": "series"}])
def test_what_only_resnets_have_is_refused_elsewhere(parts: dict[str, str]) -> None:
    config = {"arch": "vgg11_bn", "norm": "batch_per_domain"} | parts
    with pytest.raises(ConfigError, match="only a resnet has either"):
        layer_shapes(BackboneConfig.model_validate(config), (64, 64))


def test_a_stored_configuration_says_nothing_of_what_a_vgg_lacks() -> None:
    assert set(BackboneConfig().model_dump()) == {"arch", "width", "norm"}
