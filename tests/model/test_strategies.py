"""Three ways, one answer: property tests over random networks and row mixes."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.config import BackboneConfig, HeadConfig, ModelConfig, PreprocessConfig, RoutingConfig
from model.native.library import native_library
from model.network import RoutedNetwork, build
from model.rows import RowBatch
from model.strategies import STRATEGIES, Strategy, make_forward, sample_batch
from model.tasks import Task
from model.weight_cache import WeightCache
from tests.model.networks import make_network

TOLERANCE = 1e-5
CLASSES = (("no", "yes"), ("a", "b", "c"), ("p", "q", "r", "s", "t"))

configs = st.builds(
    ModelConfig,
    backbone=st.builds(
        BackboneConfig,
        arch=st.sampled_from(["vgg11", "vgg11_bn", "vgg13_bn", "vgg16_bn"]),
        width=st.sampled_from([0.125, 0.25]),
        norm=st.sampled_from(["batch", "batch_per_task"]),
    ),
    routing=st.builds(
        RoutingConfig,
        scheme=st.sampled_from(["independent", "partition", "tree"]),
        keep=st.sampled_from([0.25, 0.4, 0.6, 1.0]),
        routed_layers=st.sampled_from(["all", "last:1", "last:3", "none"]) | st.just((0, 3, 5)),
        group_layers=st.integers(0, 4),
        modulation=st.sampled_from(["none", "scale", "scale_shift"]),
        seed=st.integers(0, 99),
        unit_multiple=st.sampled_from([1, 8]),
    ),
    head=st.builds(HeadConfig, embedding=st.sampled_from([0, 8])),
    preprocess=st.builds(
        PreprocessConfig, height=st.sampled_from([28, 33, 40]), width=st.sampled_from([28, 36])
    ),
    tasks=st.lists(st.sampled_from(CLASSES), min_size=1, max_size=18).map(
        lambda kinds: tuple(
            Task(name=f"t{i}", group=f"g{i % 2}", classes=kind) for i, kind in enumerate(kinds)
        )
    ),
)


def trained_looking(config: ModelConfig, seed: int) -> RoutedNetwork:
    """A network whose batch-norm statistics, biases and modulation are not the identity."""
    network = build(config, seed)
    generator = torch.Generator().manual_seed(seed)
    for layer in network.layers:
        if layer.conv.bias is not None:
            layer.conv.bias.data.normal_(0, 0.1, generator=generator)
        if layer.norm is not None:
            layer.norm.running_mean.normal_(0, 0.3, generator=generator)
            layer.norm.running_var.uniform_(0.5, 2.0, generator=generator)
            layer.norm.weight.data.uniform_(-1.0, 1.5, generator=generator)
            layer.norm.bias.data.normal_(0, 0.2, generator=generator)
        if layer.modulation is not None:
            layer.modulation.scale.data.uniform_(-0.5, 1.5, generator=generator)
            if layer.modulation.shift is not None:
                layer.modulation.shift.data.normal_(0, 0.2, generator=generator)
    return network.eval()


def random_rows(network: RoutedNetwork, images: int, rows: int, seed: int) -> RowBatch:
    """Any mix of images and tasks, duplicate rows and unused images included.

    With an even ``seed`` every task is asked about every image as well: tails run side by side.
    """
    generator = torch.Generator().manual_seed(seed)
    pixels = sample_batch(network, images).images
    if seed % 2 == 0:
        return RowBatch.all_pairs(pixels, range(len(network.tasks)))
    return RowBatch(
        pixels,
        torch.randint(0, images, (rows,), generator=generator),
        torch.randint(0, len(network.tasks), (rows,), generator=generator),
    )


def probabilities(network: RoutedNetwork, batch: RowBatch, logits: Tensor) -> list[Tensor]:
    result = []
    for task_index, row in zip(batch.task_index.tolist(), logits, strict=True):
        task = network.tasks[task_index]
        assert torch.isneginf(row[task.outputs :]).all()
        real = row[: task.outputs]
        result.append(real.sigmoid() if task.is_binary else real.softmax(dim=0))
    return result


def largest_difference(network: RoutedNetwork, batch: RowBatch, a: Tensor, b: Tensor) -> float:
    pairs = zip(probabilities(network, batch, a), probabilities(network, batch, b), strict=True)
    return max(float((x - y).abs().max()) for x, y in pairs)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    config=configs,
    images=st.integers(1, 4),
    rows=st.integers(1, 24),
    workers=st.sampled_from([1, 2]),
    native=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_every_strategy_gives_the_masked_answer(
    config: ModelConfig, images: int, rows: int, workers: int, native: bool, seed: int
) -> None:
    network = trained_looking(config, seed)
    batch = random_rows(network, images, rows, seed)
    reference = make_forward(network, "masked")(batch)
    for name in ("mixed", "subnet"):
        found = make_forward(network, name, workers=workers, native=native)(batch)
        assert found.shape == (len(batch), network.tasks.max_outputs)
        assert found.dtype == torch.float32
        assert largest_difference(network, batch, reference, found) <= TOLERANCE, name


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(config=configs, seed=st.integers(0, 1000))
def test_a_row_does_not_depend_on_its_neighbours(config: ModelConfig, seed: int) -> None:
    network = trained_looking(config, seed)
    batch = random_rows(network, images=3, rows=10, seed=seed)
    for name in STRATEGIES:
        forward = make_forward(network, name)
        together = forward(batch)
        for row in range(0, len(batch), max(1, len(batch) // 4)):
            image, task = batch.image_index[row : row + 1], batch.task_index[row : row + 1]
            alone = forward(RowBatch(batch.images[image], torch.zeros(1, dtype=torch.int64), task))
            single = RowBatch(batch.images, image, task)
            assert (
                largest_difference(network, single, together[row : row + 1], alone) <= TOLERANCE
            ), name


def test_the_compiled_kernels_can_be_left_unused() -> None:
    forward = make_forward(make_network(), "subnet", native=False)
    assert forward.kernels == "pytorch"


@pytest.mark.skipif(native_library() is None, reason="the kernels were not compiled")
@pytest.mark.parametrize("routed_layers", ["all", "last:2"])
@pytest.mark.parametrize("norm", ["batch", "batch_per_task"])
def test_with_the_compiled_kernels_neighbours_do_not_change_a_bit(
    routed_layers: str, norm: str
) -> None:
    network = trained_looking(
        ModelConfig.model_validate(
            {
                "backbone": {"width": 0.5, "norm": norm},
                "routing": {"keep": 0.4, "routed_layers": routed_layers},
                "preprocess": {"height": 64, "width": 64},  # large enough for Winograd
                "tasks": [{"name": f"t{index}"} for index in range(9)],
            }
        ),
        seed=0,
    )
    batch = RowBatch.all_pairs(sample_batch(network, images=3).images, range(9))
    together = make_forward(network, "subnet", workers=2)(batch)
    forward = make_forward(network, "subnet")
    for row in (0, 7, 13, 26):
        alone = RowBatch(
            batch.images, batch.image_index[row : row + 1], batch.task_index[row : row + 1]
        )
        assert torch.equal(forward(alone)[0], together[row])
    three = RowBatch(batch.images, batch.image_index[9:12], batch.task_index[9:12])
    assert torch.equal(forward(three), together[9:12])


@pytest.fixture(scope="module")
def forty() -> RoutedNetwork:
    return trained_looking(
        ModelConfig(
            backbone=BackboneConfig(width=0.25),
            routing=RoutingConfig(keep=0.4),
            preprocess=PreprocessConfig(height=32, width=32),
            tasks=tuple(Task(name=f"t{i}") for i in range(40)),
        ),
        seed=0,
    )


def test_bfloat16_stays_close_and_logits_stay_float32(forty: RoutedNetwork) -> None:
    batch = sample_batch(forty, images=2)
    reference = make_forward(forty, "masked")(batch)
    for name in STRATEGIES:
        found = make_forward(forty, name, dtype=torch.bfloat16)(batch)
        assert found.dtype == torch.float32
        assert 0 < largest_difference(forty, batch, reference, found) < 0.05, name


@pytest.mark.parametrize("native", [True, False])
def test_a_cache_under_budget_pressure_changes_no_bit(native: bool) -> None:
    network = make_network(
        backbone={"units": (64, 64, 64, 16, 16, 16, 16, 16)},
        preprocess={"height": 64, "width": 64},  # large enough for Winograd
    )
    batch = sample_batch(network, images=2)
    roomy = WeightCache()
    easy = make_forward(network, "subnet", cache=roomy, native=native)
    expected = easy(batch)
    tight = WeightCache(budget_bytes=roomy.held_bytes // 4)
    for _ in range(2):
        pressed = make_forward(network, "subnet", cache=tight, native=native)
        assert torch.equal(pressed(batch), expected)
        assert tight.held_bytes > 0
        assert tight.held_bytes <= tight.budget_bytes


def test_versions_with_equal_weights_share_their_cut_weights(forty: RoutedNetwork) -> None:
    batch, cache = sample_batch(forty), WeightCache()
    first = make_forward(forty, "subnet", cache=cache)
    first(batch)
    held = cache.held_bytes
    twin = RoutedNetwork(forty.config)
    twin.load_state_dict(forty.state_dict())
    second = make_forward(twin, "subnet", cache=cache)
    second(batch)
    assert cache.held_bytes == held
    with torch.no_grad():
        twin.layers[7].conv.weight.mul_(2)
    third = make_forward(twin, "subnet", cache=cache)
    third(batch)
    assert cache.held_bytes > held


def test_auto_is_one_of_the_strategies_and_answers_alike(forty: RoutedNetwork) -> None:
    batch = sample_batch(forty, tasks=5)
    auto = make_forward(forty, "auto")
    assert auto.name in STRATEGIES
    expected = make_forward(forty, "masked")(batch)
    assert largest_difference(forty, batch, expected, auto(batch)) <= TOLERANCE


@pytest.mark.gpu
def test_cuda_gives_the_cpu_answer(forty: RoutedNetwork) -> None:
    batch = sample_batch(forty, images=2)
    reference = make_forward(forty, "masked")(batch)
    state = {name: tensor.clone() for name, tensor in forty.state_dict().items()}
    for name in STRATEGIES:
        on_gpu = RoutedNetwork(forty.config)
        on_gpu.load_state_dict(state)
        found = make_forward(on_gpu, name, "cuda")(batch)
        assert largest_difference(forty, batch, reference, found) <= 1e-3, name


@pytest.mark.parametrize("asked", [1, 3])
@pytest.mark.parametrize("strategy", [*STRATEGIES, "auto"])
def test_every_way_says_when_it_leaves_the_interpreter_to_others(
    strategy: Strategy | Literal["auto"], asked: int
) -> None:
    network = make_network()
    forward = make_forward(network, strategy)
    batch = sample_batch(network, 2, asked)
    said: list[str] = []
    forward(batch, lambda: said.append("first"))  # here subnets cut their weights
    assert said
    said.clear()
    forward(batch, lambda: said.append("again"))
    assert said == ["again"]
