from __future__ import annotations

import copy
import math
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.backbones.vgg import VGG_BLOCKS
from model.batch_norm import BatchNorm
from model.config import ModelConfig, RoutingConfig
from model.errors import ConfigError
from model.network import RoutedNetwork, build
from model.small_maps import convolve
from model.tasks import Task
from tests.model.networks import TASKS, make_config, make_network, random_images

SLOW = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def networks(draw: st.DrawFn) -> RoutedNetwork:
    """Any architecture of tiny width with any routing, in float64 so that equality is sharp."""
    arch = draw(st.sampled_from(sorted(VGG_BLOCKS))) + draw(st.sampled_from(["", "_bn"]))
    convolutions = sum(VGG_BLOCKS[arch.removesuffix("_bn")])
    scheme = draw(st.sampled_from(["independent", "partition", "tree"]))
    layers = draw(
        st.one_of(
            st.sampled_from(["all", "none", "last:1", "last:2", "last:4"]),
            st.lists(st.integers(0, convolutions - 1), max_size=4),
        )
    )
    side = st.integers(28, 40)
    network = make_network(
        TASKS,
        seed=draw(st.integers(0, 99)),
        backbone={
            "arch": arch,
            "width": draw(st.sampled_from([0.01, 0.05])),
            "norm": draw(st.sampled_from(["batch", "batch_per_task"])),
        },
        routing={
            "scheme": scheme,
            "keep": draw(st.sampled_from([0.3, 0.6, 1.0] + [0.0] * (scheme == "partition"))),
            "routed_layers": layers,
            "group_layers": draw(st.integers(0, 3)),
            "seed": draw(st.integers(0, 99)),
        },
        head={"embedding": draw(st.sampled_from([0, 3]))},
        preprocess={"height": draw(side), "width": draw(side)},
    )
    return network.double()


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> bool:
    return torch.allclose(found, expected, rtol=tolerance, atol=tolerance)


# --- one answer, four ways --------------------------------------------------------------------


@SLOW
@given(networks(), st.lists(st.integers(0, len(TASKS) - 1), min_size=1, max_size=4))
def test_every_way_to_run_gives_the_same_answer(network: RoutedNetwork, asked: list[int]) -> None:
    images = random_images(network, len(asked))
    with torch.no_grad():
        rows = network(images, torch.tensor(asked))
        together = network.forward_tasks(images, asked)
        for row, task in enumerate(asked):
            outputs = TASKS[task].outputs
            masked = network(images, task)
            assert masked.shape == (len(asked), outputs)
            assert close(rows[row, :outputs], masked[row])
            assert bool((rows[row, outputs:] == -math.inf).all())
            assert close(network.forward_cut(images, task), masked)
            assert close(together[row], masked)


def gradients(network: RoutedNetwork, logits: Tensor) -> dict[str, Tensor]:
    network.zero_grad()
    torch.autograd.backward(logits.pow(2).sum() + logits.sum())
    return {name: p.grad.clone() if p.grad is not None else torch.zeros_like(p)
            for name, p in network.named_parameters()}  # fmt: skip


@SLOW
@given(networks(), st.integers(0, len(TASKS) - 1), st.booleans(), st.integers(1, 4))
def test_cut_training_is_masked_training(
    network: RoutedNetwork, task: int, training: bool, batch: int
) -> None:
    network.train(training)
    masked, cut = network, copy.deepcopy(network)
    before = copy.deepcopy(network)
    images = random_images(network, batch)
    expected, found = masked(images, task), cut.forward_cut(images, task)
    # Batch norm over two pixels of a dead unit divides by a variance of nothing: not quite 1e-9.
    assert close(found, expected, 1e-7)
    by_mask, by_cut = gradients(masked, expected), gradients(cut, found)
    for name, gradient in by_mask.items():
        assert close(by_cut[name], gradient, 1e-5 * (1 + float(gradient.abs().max()))), name
    for layer, (one, other, old) in enumerate(
        zip(cut.layers, masked.layers, before.layers, strict=True)
    ):
        route = one.route.mask[task] if one.route is not None else torch.ones(one.shape.units) > 0
        for name, gradient in ((f"layers.{layer}.{n}", p) for n, p in one.named_parameters()):
            assert not by_mask[name][~route].any()
            assert not by_cut[name][~route].any()
            assert gradient.shape[0] == one.shape.units
        if one.norm is None or other.norm is None or old.norm is None:
            continue
        row = one.norm.row(task)
        for statistic in ("running_mean", "running_var"):
            new, reference, was = (
                getattr(norm, statistic) for norm in (one.norm, other.norm, old.norm)
            )
            assert close(new[row, route], reference[row, route], 1e-7)
            assert torch.equal(new[row, ~route], was[row, ~route])
            others = torch.arange(len(new)) != row
            assert torch.equal(new[others], was[others])


@SLOW
@given(networks(), st.lists(st.integers(0, len(TASKS) - 1), min_size=1, max_size=4, unique=True))
def test_several_tasks_at_once_train_like_one_after_the_other(
    network: RoutedNetwork, tasks: list[int]
) -> None:
    network.train()
    apart, together = network, copy.deepcopy(network)
    images = random_images(network, 3)
    expected = [apart(images, task) for task in tasks]
    found = together.forward_tasks(images, tasks)
    for one, other in zip(found, expected, strict=True):
        assert close(one, other, 1e-7)
    by_one = gradients(apart, torch.cat([logits.flatten() for logits in expected]))
    by_all = gradients(together, torch.cat([logits.flatten() for logits in found]))
    for name, gradient in by_one.items():
        assert close(by_all[name], gradient, 1e-5 * (1 + float(gradient.abs().max()))), name
    for layer, reference in zip(together.layers, apart.layers, strict=True):
        if layer.norm is None or reference.norm is None or not layer.norm.per_task:
            continue  # what all tasks share is normalised once for them together
        asked = torch.isin(torch.arange(len(TASKS)), torch.tensor(tasks))[:, None]
        updated = asked & (torch.ones(layer.shape.units) > 0)
        if layer.route is not None:
            updated = asked & layer.route.mask
        for statistic in ("running_mean", "running_var"):
            new, expected_new = getattr(layer.norm, statistic), getattr(reference.norm, statistic)
            assert close(new[updated], expected_new[updated], 1e-7)
        assert torch.equal(layer.norm.batches_seen, reference.norm.batches_seen)


LATE: dict[str, Any] = {
    "backbone": {"width": 0.01, "norm": "batch_per_task"},
    "routing": {"keep": 0.5, "routed_layers": "last:2"},
}


@pytest.fixture
def side_by_side(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tasks each call of :func:`convolve` was for."""
    found: list[int] = []

    def counted(x: Tensor, weight: Tensor, in_units: Tensor, out_units: Tensor) -> Tensor:
        found.append(len(in_units))
        return convolve(x, weight, in_units, out_units)

    monkeypatch.setattr("model.conv_layer.convolve", counted)
    return found


@pytest.mark.parametrize(
    ("parts", "training", "expected"),
    [
        ({}, True, [5]),  # the last layer of five tasks, at once
        ({}, False, []),
        ({"routing": {"keep": 0.5, "routed_layers": "last:2", "modulation": "scale"}}, True, []),
        ({"backbone": {"width": 0.01, "norm": "batch"}}, True, []),  # statistics one after another
        ({"preprocess": {"height": 48, "width": 48}}, True, []),  # maps of 3x3
    ],
)
def test_which_tasks_train_side_by_side(
    side_by_side: list[int], parts: dict[str, Any], training: bool, expected: list[int]
) -> None:
    network = make_network(**(LATE | parts)).train(training)
    network.forward_tasks(random_images(network, 3), range(len(TASKS)))
    assert side_by_side == expected


def test_no_more_train_side_by_side_than_should(
    side_by_side: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.small_maps._MOST_VALUES", 2 * 4 * 4)  # two tasks of 4 x 4 units
    apart, together = (make_network(**LATE).double().train() for _ in range(2))
    images = random_images(apart, 3)
    found = together.forward_tasks(images, range(len(TASKS)))
    assert side_by_side == [2, 2]
    for task, logits in enumerate(found):
        assert close(logits, apart(images, task), 1e-7)


def test_float32_answers_agree_within_the_promised_tolerance() -> None:
    network = make_network(
        backbone={"width": 0.25}, preprocess={"height": 48, "width": 64}, routing={"keep": 0.4}
    )
    images = random_images(network, 4)
    with torch.inference_mode():
        for task in range(len(TASKS)):
            masked = network(images, task).sigmoid()
            assert float((network.forward_cut(images, task).sigmoid() - masked).abs().max()) < 1e-5
            rows = network(images, torch.full((4,), task))[:, : TASKS[task].outputs].sigmoid()
            assert float((rows - masked).abs().max()) < 1e-5


def test_tasks_asked_twice_are_answered_twice() -> None:
    network = make_network()
    images = random_images(network, 2)
    first, other, second = network.forward_tasks(images, [1, 0, 1])
    assert torch.equal(first, second)
    assert first.shape != other.shape
    assert network.forward_tasks(images, []) == []


# --- rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["batch", "batch_per_task"])
def test_a_row_s_answer_does_not_depend_on_its_neighbours(norm: str) -> None:
    network = make_network(backbone={"norm": norm, "width": 0.05})
    images, tasks = random_images(network, 9), torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3])
    with torch.inference_mode():
        together = network(images, tasks)
        for row in range(9):
            alone = network(images[row : row + 1], tasks[row : row + 1])
            assert torch.allclose(alone[0], together[row], atol=1e-5)
        order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
        shuffled = network(images[order], tasks[order])
        assert torch.allclose(shuffled, together[order], atol=1e-5)


def test_rows_are_padded_to_the_widest_task_of_the_network() -> None:
    network = make_network()
    rows = network(random_images(network, 2), torch.tensor([0, 2]))  # both binary
    assert rows.shape == (2, 4)
    assert bool(rows[:, 0].isfinite().all())
    assert bool((rows[:, 1:] == -math.inf).all())


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (-1, "task index -1; this network has tasks 0 to 4"),
        (5, "task index 5; this network has tasks 0 to 4"),
        (torch.tensor([0, 5]), r"task indices \[5\]; this network has tasks 0 to 4"),
        (torch.tensor([-1, 0]), r"task indices \[-1\]"),
    ],
)
def test_tasks_that_the_network_does_not_have(task: int | Tensor, message: str) -> None:
    network = make_network()
    images = random_images(network, 2)
    with pytest.raises(IndexError, match=message):
        network(images, task)
    if isinstance(task, int):
        for run in (network.forward_cut, lambda x, t: network.forward_tasks(x, [0, t])):
            with pytest.raises(IndexError, match=message):
                run(images, task)
        with pytest.raises(IndexError, match=message):
            network.set_active_task(task)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (torch.tensor([0, 1, 2]), r"shape \[3\] for 2 images"),
        (torch.tensor([0]), r"shape \[1\] for 2 images"),
        (torch.tensor(0), "one int or int64"),
        (torch.tensor([[0, 1]]), "one int or int64"),
        (torch.tensor([0.0, 1.0]), "one int or int64"),
        (torch.tensor([True, False]), "one int or int64"),
    ],
)
def test_row_vectors_that_do_not_fit(task: Tensor, message: str) -> None:
    network = make_network()
    with pytest.raises(ValueError, match=message):
        network(random_images(network, 2), task)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 28, 28, 3),
        torch.zeros(1, 3, 28, 28, dtype=torch.uint8),
        torch.zeros(28, 28, 3, dtype=torch.uint8),
        torch.zeros(1, 29, 28, 3, dtype=torch.uint8),
        torch.zeros(1, 28, 28, 1, dtype=torch.uint8),
    ],
    ids=lambda x: f"{x.dtype}{list(x.shape)}",
)
def test_images_that_do_not_fit(images: Tensor) -> None:
    network = make_network()
    for run in (network, network.forward_cut):
        with pytest.raises(ValueError, match=r"images must be uint8 \[N, 28, 28, 3\], got"):
            run(images, 0)


def test_normalisation_is_per_channel_and_keeps_the_orientation() -> None:
    network = make_network(
        preprocess={"height": 28, "width": 30, "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.25, 2.0)}
    )
    images = random_images(network, 2)
    x = network.normalise(images)
    assert x.shape == (2, 3, 28, 30)
    pixel = images[1, 5, 7].double() / 255
    expected = (pixel - torch.tensor([0.1, 0.2, 0.3])) / torch.tensor([0.5, 0.25, 2.0])
    assert torch.allclose(x[1, :, 5, 7].double(), expected, atol=1e-6)


# --- the active task --------------------------------------------------------------------------


def test_set_active_task_is_the_default_and_only_that() -> None:
    network = make_network()
    images = random_images(network, 2)
    with pytest.raises(ConfigError, match="call set_active_task"):
        network(images)
    network.set_active_task(3)
    assert torch.equal(network(images), network(images, 3))
    assert torch.equal(network(images, 0), make_network()(images, 0))
    network.set_active_task(1)
    assert torch.equal(network(images), network(images, 1))
    assert "task" not in " ".join(network.state_dict())


@contextmanager
def rapid_switching() -> Iterator[None]:
    """Let threads take turns far more often than usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def run_threads(works: list[Callable[[], None]]) -> None:
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    with rapid_switching():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def test_threads_with_different_tasks_do_not_disturb_each_other() -> None:
    network = make_network(backbone={"norm": "batch_per_task"})
    images = random_images(network, 2)
    with torch.no_grad():
        alone = [network(images, task) for task in range(len(TASKS))]

    def work(task: int) -> None:
        others = torch.tensor([task, (task + 1) % len(TASKS)])
        with torch.no_grad():
            for _ in range(6):
                assert torch.equal(network(images, task), alone[task])
                assert close(network.forward_cut(images, task), alone[task], 1e-5)
                rows = network(images, others)
                assert close(rows[0, : TASKS[task].outputs], alone[task][0], 1e-5)

    run_threads([lambda task=task: work(task) for task in range(len(TASKS))])  # type: ignore[misc]


def test_threads_share_the_cache_of_trees() -> None:
    network = make_network()

    def work(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(60):
            size = int(torch.randint(1, 6, (), generator=generator))
            tasks = torch.randperm(5, generator=generator)[:size].tolist()
            assert [task for root in network.tree(tasks) for task in root.tasks] == tasks

    run_threads([lambda seed=seed: work(seed) for seed in range(4)])  # type: ignore[misc]
    assert len(network._trees) <= 64
    assert network.tree([0, 1]) is network.tree((0, 1))


# --- statistics -------------------------------------------------------------------------------


def rows_of_statistics(network: RoutedNetwork) -> list[int]:
    return [len(layer.norm.running_mean) for layer in network.layers if layer.norm is not None]


@pytest.mark.parametrize(
    ("norm", "routed_layers", "expected"),
    [
        ("batch", "all", [1] * 8),
        ("batch_per_task", "none", [1] * 8),
        ("batch_per_task", "all", [1] + [5] * 7),
        ("batch_per_task", "last:3", [1] * 6 + [5] * 2),
        ("batch_per_task", "last:1", [1] * 8),
        ("batch_per_task", (2, 6), [1] * 3 + [5] * 5),
    ],
)
def test_statistics_are_per_task_behind_the_first_routed_layer(
    norm: str, routed_layers: object, expected: list[int]
) -> None:
    network = make_network(backbone={"norm": norm}, routing={"routed_layers": routed_layers})
    assert rows_of_statistics(network) == expected


def test_training_one_task_leaves_other_tasks_statistics_and_answers() -> None:
    network = make_network(
        backbone={"norm": "batch_per_task"},
        routing={"scheme": "partition", "keep": 0.0, "routed_layers": "last:7"},
    )
    images = random_images(network, 4)
    with torch.no_grad():
        before = network(images, 3)
        for layer in network.modules():
            if isinstance(layer, BatchNorm):
                layer.train(layer.per_task)  # the shared prefix stays as it is
        network.forward_cut(images, 0)
        network(images, 0)
        network.eval()
        assert torch.equal(network(images, 3), before)


def test_disjoint_subnets_do_not_touch_each_other_s_units() -> None:
    network = make_network(routing={"scheme": "partition", "keep": 0.0}).train()
    by_task = []
    for task in (0, 3):
        found = gradients(network, network(random_images(network, 4), task))
        by_task.append({name: gradient != 0 for name, gradient in found.items()})
    assert all(mask.any() for name, mask in by_task[0].items() if name.startswith("layers"))
    for name, touched in by_task[0].items():
        assert not (touched & by_task[1][name]).any(), name


# --- construction and state -------------------------------------------------------------------


def test_equal_seeds_give_equal_networks_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = build(make_config(), seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    other = build(make_config(), seed=3)
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, values in one.state_dict().items():
        assert torch.equal(values, other.state_dict()[name]), name
        assert not values.is_floating_point() or bool(values.isfinite().all())


def test_the_weight_seed_changes_weights_and_the_routing_seed_changes_routes() -> None:
    def parts(seed: int, routing_seed: int) -> tuple[Tensor, Tensor]:
        network = build(make_config(routing={"seed": routing_seed}), seed)
        mask = network.routes[0]
        assert mask is not None
        return network.layers[3].conv.weight, mask

    weights, routes = parts(0, 0)
    assert torch.equal(parts(1, 0)[1], routes)
    assert not torch.equal(parts(1, 0)[0], weights)
    assert not torch.equal(parts(0, 1)[1], routes)


@pytest.mark.parametrize("arch", ["vgg11", "vgg19", "vgg19_bn"])
@pytest.mark.parametrize("keep", [0.3, 1.0])
def test_the_signal_neither_fades_nor_explodes_at_the_start(arch: str, keep: float) -> None:
    config = make_config(
        backbone={"arch": arch, "width": 0.25}, routing={"keep": keep, "unit_multiple": 8},
        head={"embedding": 32},
    )  # fmt: skip
    network = build(config).train()
    with torch.no_grad():
        logits = torch.cat(
            [x.flatten() for x in network.forward_tasks(random_images(network, 8), range(5))]
        )
    assert 0.05 < float(logits.std()) < 5.0


def test_a_stored_state_brings_its_routes_along() -> None:
    one, other = make_network(seed=1), make_network(seed=2, routing={"seed": 99})
    images = random_images(one, 2)
    expected = [one.forward_cut(images, task) for task in range(5)]
    assert not any(
        torch.equal(other.forward_cut(images, task), logits) for task, logits in enumerate(expected)
    )
    other.load_state_dict(one.state_dict())
    for task, logits in enumerate(expected):
        assert torch.equal(other.forward_cut(images, task), logits)
        assert torch.equal(other(images, task), one(images, task))


def test_writing_to_a_mask_is_seen_after_saying_so() -> None:
    network = make_network().double()
    images = random_images(network, 2)
    network.forward_cut(images, 0)
    for mask in network.routes:
        assert mask is not None
        mask[0] = mask[3].clone()
    network.routes_changed()
    assert close(network.forward_cut(images, 0), network(images, 0))


def test_a_deep_copy_is_independent() -> None:
    network = make_network()
    images = random_images(network, 2)
    expected = network.forward_cut(images, 0)
    other = copy.deepcopy(network)
    with torch.no_grad():
        for values in other.parameters():
            values.zero_()
    assert torch.equal(network.forward_cut(images, 0), expected)
    assert not other.forward_cut(images, 0).any()


def test_routes_and_counts() -> None:
    network = make_network(routing={"routed_layers": "last:2"})
    assert [mask is not None for mask in network.routes] == [False] * 6 + [True] * 2
    assert all(mask.shape == (5, 8) for mask in network.routes if mask is not None)
    trunk = 27 * 8 + 7 * 9 * 8 * 8 + 8 * 2 * 8  # convolutions, scale and shift
    heads = 5 * 4 * (8 + 1) + 10 * (4 + 1)
    assert network.parameter_counts() == {"trunk": trunk, "heads": heads}
    assert sum(p.numel() for p in network.parameters()) == trunk + heads
    assert not any("mask" in name for name, _ in network.named_parameters())
    assert sum(name.endswith("route.mask") for name in network.state_dict()) == 2


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"backbone": {"arch": "vgg12"}}, "arch is 'vgg12'"),
        ({"routing": {"keep": 0.0}}, "every task needs keep > 0"),
        ({"routing": {"scheme": "partition", "keep": 0.0}}, "8 units for 12 tasks"),
        ({"routing": {"routed_layers": "last:9"}}, "the backbone has 8 convolutions"),
        ({"routing": {"keep": (0.5, 0.5)}}, "keep has 2 values for 8 routed layers"),
    ],
)
def test_configurations_that_cannot_work(parts: dict[str, object], message: str) -> None:
    config = make_config([Task(name=f"t{index}") for index in range(12)], **parts)
    with pytest.raises(ConfigError, match=message):
        build(config)


def test_a_single_task_and_a_single_unit() -> None:
    network = make_network(
        [Task(name="only")], backbone={"norm": "batch_per_task"}, routing={"keep": 0.01}
    ).double()
    images = random_images(network, 2)
    assert close(network.forward_cut(images, 0), network(images, 0))
    assert close(network(images, torch.tensor([0, 0])), network(images, 0))


@pytest.mark.gpu
def test_cuda_gives_the_cpu_answer_and_gradients() -> None:
    network = make_network(backbone={"norm": "batch_per_task"}).double().train()
    images = random_images(network, 4)
    other = copy.deepcopy(network).cuda()
    for task in range(len(TASKS)):
        expected = network.forward_cut(images, task)
        found = other.forward_cut(images.cuda(), task)
        assert close(found.cpu(), expected, 1e-6)
        by_cpu, by_cuda = gradients(network, expected), gradients(other, found)
        for name, gradient in by_cpu.items():
            assert close(by_cuda[name].cpu(), gradient, 1e-4 * (1 + float(gradient.abs().max())))
    network.eval()
    other.eval()
    rows = torch.tensor([0, 1, 2, 3])
    assert close(other(images.cuda(), rows.cuda()).cpu(), network(images, rows), 1e-6)


def test_the_config_is_kept() -> None:
    config = make_config()
    network = RoutedNetwork(config)
    assert network.config is config
    assert isinstance(network.config, ModelConfig)
    assert network.tasks.names == tuple(task.name for task in TASKS)


def chosen_routes(network: RoutedNetwork, seed: int = 0) -> list[Tensor | None]:
    """Three random units of eight for every task in the last two layers."""
    generator = torch.Generator().manual_seed(seed)
    routes: list[Tensor | None] = [None] * len(network.layers)
    for layer in (-2, -1):
        scores = torch.rand(len(TASKS), network.layers[layer].shape.units, generator=generator)
        routes[layer] = scores.argsort(dim=1).argsort(dim=1) < 3
    return routes


CHOSEN = {"scheme": "saliency", "routed_layers": "last:2", "keep": 0.375}


def test_a_network_is_built_with_given_routes_or_not_at_all() -> None:
    config = make_config(routing=CHOSEN)
    routes = chosen_routes(RoutedNetwork(config))
    network = build(config, routes=routes)
    for mask, wanted in zip(network.routes, routes, strict=True):
        assert (mask is None) == (wanted is None)
        assert mask is None or wanted is None or torch.equal(mask, wanted)
    with pytest.raises(ConfigError, match="chosen in training"):
        build(config)
    with pytest.raises(ConfigError, match="routes for 7 layers"):
        build(config, routes=routes[1:])


def test_stored_routes_come_back_with_the_state() -> None:
    config = make_config(routing=CHOSEN)
    network = build(config, routes=chosen_routes(RoutedNetwork(config)))
    other = RoutedNetwork(config)
    other.load_state_dict(network.state_dict())
    images = random_images(network, 2)
    for task in range(len(TASKS)):
        assert torch.equal(other.eval()(images, task), network.eval()(images, task))


@pytest.mark.parametrize("norm", ["batch", "batch_per_task"])
def test_a_network_routed_in_place_keeps_its_parameters_and_starts_with_its_statistics(
    norm: str,
) -> None:
    network = make_network(backbone={"norm": norm}, routing={"routed_layers": "none"})
    parameters = dict(network.named_parameters())
    network.tree(range(len(TASKS)))  # cached, and to be forgotten
    routing = RoutingConfig.model_validate(CHOSEN | {"unit_multiple": 1})
    network.set_routes(routing, chosen_routes(network))

    assert network.config.routing == routing
    assert all(parameters[name] is one for name, one in network.named_parameters())
    fresh = RoutedNetwork(network.config)
    fresh.load_state_dict(network.state_dict())
    images = random_images(network, 3)
    for task in range(len(TASKS)):
        expected = network(images, task)
        assert close(network.forward_cut(images, task), expected, 1e-5)
        assert torch.equal(fresh.eval()(images, task), expected)
    last = network.layers[-1].norm
    assert last is not None
    assert len(last.running_mean) == (len(TASKS) if norm == "batch_per_task" else 1)
    assert (last.running_mean == last.running_mean[0]).all()
    # Other routes later leave each task its own statistics.
    with torch.no_grad():
        last.running_mean += torch.arange(len(last.running_mean))[:, None]
    before = last.running_mean.clone()
    network.set_routes(routing, chosen_routes(network, seed=1))
    assert torch.equal(last.running_mean, before)


def test_statistics_of_tasks_do_not_become_shared_ones() -> None:
    network = make_network(backbone={"norm": "batch_per_task"})
    with pytest.raises(ValueError, match="statistics of 5 tasks cannot become those of 1"):
        network.set_routes(RoutingConfig(routed_layers="none"), [None] * len(network.layers))


def test_answering_in_inference_mode_does_not_stop_training() -> None:
    network = make_network(TASKS, routing={"keep": 0.5})
    with torch.inference_mode():
        network.forward_tasks(random_images(network, 2), [0, 1])
    logits = network.train().forward_tasks(random_images(network, 2), [0, 1])
    torch.cat(logits, dim=1).sum().backward()  # type: ignore[no-untyped-call]
    assert network.layers[0].conv.weight.grad is not None
