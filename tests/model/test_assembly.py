"""Tasks that are added change no bit of what the others answer, whatever runs the rows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.assembly import TaskPart, assemble, shared_state, task_parts
from model.config import ModelConfig
from model.errors import ConfigError
from model.network import RoutedNetwork, build
from model.plan import make_plan
from model.rows import RowBatch
from model.strategies import STRATEGIES, Strategy, make_forward, sample_batch
from model.tasks import Task
from tests.model.networks import TASKS, make_network
from tests.model.test_strategies import configs, trained_looking

CLASSES = (("no", "yes"), ("a", "b", "c"), tuple("abcdefghi"))


def part_like(
    network: RoutedNetwork, task: Task, like: int, generation: int, seed: int | None = None
) -> TaskPart:
    """A new task's own tensors: routes and statistics of task ``like``, unless there is a seed."""
    found = task_parts(network)[like]
    tensors = {name: tensor.clone() for name, tensor in found.tensors.items()}
    generator = torch.Generator().manual_seed(seed or 0)
    for name, tensor in tensors.items():
        if name.startswith("heads.embed"):
            tensors[name] = torch.randn(tensor.shape, generator=generator)
        elif name.startswith("heads."):
            shape = (task.outputs, *tensor.shape[1:])
            tensors[name] = torch.randn(shape, generator=generator)
        elif seed is not None and name.endswith("mask"):
            tensors[name] = tensor[torch.randperm(len(tensor), generator=generator)]
        elif seed is not None and tensor.is_floating_point():
            tensors[name] = tensor + 0.1 * torch.rand(tensor.shape, generator=generator)
    return TaskPart(task, generation, tensors)


def grown(network: RoutedNetwork, additions: int, seed: int) -> RoutedNetwork:
    """``network`` with tasks added one publication after the other, every third like an old one."""
    parts = task_parts(network)
    for index in range(additions):
        classes = CLASSES[(index + seed) % len(CLASSES)]
        task = Task(name=f"new{index}", classes=classes)
        like = (seed + index) % len(network.tasks)
        own = None if index % 3 == 1 else seed + index
        parts.append(part_like(network, task, like, index + 1, own))
    return assemble(network, parts)


FORWARDS: list[tuple[Strategy, bool]] = [*((one, True) for one in STRATEGIES), ("subnet", False)]
"""Strategies, and whether they may use the compiled kernels."""


def same_bits(
    before: RoutedNetwork,
    after: RoutedNetwork,
    strategy: Strategy,
    batch: RowBatch,
    workers: int,
    *,
    native: bool,
) -> bool:
    """Rows of old tasks: asked alone, and asked together with every new task."""
    expected = make_forward(before, strategy, workers=workers, native=native)(batch)
    forward = make_forward(after, strategy, workers=workers, native=native)
    width = before.tasks.max_outputs
    alone = torch.equal(forward(batch)[:, :width], expected)
    new = range(len(before.tasks), len(after.tasks))
    images = torch.arange(len(batch.images)).repeat(len(new))
    tasks = torch.tensor(list(new)).repeat_interleave(len(batch.images))
    mixed = RowBatch(
        batch.images,
        torch.cat([batch.image_index, images]),
        torch.cat([batch.task_index, tasks]),
    )
    together = torch.equal(forward(mixed)[: len(batch), :width], expected)
    return alone and together


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    config=configs,
    additions=st.integers(1, 6),
    images=st.integers(1, 3),
    workers=st.sampled_from([1, 2]),
    seed=st.integers(0, 1000),
)
def test_old_tasks_answer_as_before_to_the_last_bit(
    config: ModelConfig, additions: int, images: int, workers: int, seed: int
) -> None:
    before = trained_looking(config, seed)
    after = grown(before, additions, seed)
    batch = RowBatch.all_pairs(sample_batch(before, images).images, range(len(before.tasks)))
    for strategy, native in FORWARDS:
        assert same_bits(before, after, strategy, batch, workers, native=native), (strategy, native)


@pytest.mark.parametrize("native", [True, False])
def test_tails_side_by_side_and_alone_answer_as_before(native: bool) -> None:
    """Eleven tails: two groups of four, and three alone, with Winograd's algorithm."""
    network = make_network(
        tuple(Task(name=f"t{index}") for index in range(11)),
        backbone={"units": (64, 64, 64, 16, 16, 16, 16, 16), "norm": "batch_per_task"},
        routing={"keep": 0.75, "unit_multiple": 8},
        preprocess={"height": 64, "width": 64},
    )
    after = grown(network, 4, seed=3)
    batch = RowBatch.all_pairs(sample_batch(network, 1).images, range(11))
    assert same_bits(network, after, "subnet", batch, workers=2, native=native)


@pytest.mark.parametrize("routed_layers", ["all", "last:3", (2, 5)])
def test_the_plan_of_earlier_generations_stays_the_very_same(
    routed_layers: str | tuple[int, ...],
) -> None:
    """Shapes choose kernels: what old tasks compute alone or together must keep its shape."""
    before = make_network(routing={"routed_layers": routed_layers, "keep": 0.25})
    after = grown(before, 3, seed=5)

    def plan(network: RoutedNetwork) -> list[tuple[int, bytes]]:
        roots = make_plan(network, range(len(network.tasks)))
        nodes = [node for root in roots for node in root.walk()]
        return [(task, node.cut.key) for node in nodes for task in node.tasks if task < 5]

    assert sorted(plan(after)) == sorted(plan(before))


def test_a_task_with_the_route_and_statistics_of_another_computes_no_convolution() -> None:
    network = make_network(backbone={"norm": "batch_per_task"})
    parts = task_parts(network)
    rider = part_like(network, Task(name="rider"), like=2, generation=1)
    after = assemble(network, [*parts, rider])
    assert after.computed_by == (0, 1, 2, 3, 4, 2)
    assert all(5 not in node.tasks for node in after.tree(range(6)))
    images = sample_batch(after, 3).images
    for tasks in ([5], [2, 5], range(6)):
        batch = RowBatch.all_pairs(images, tasks)
        reference = make_forward(after, "masked")(batch)
        found = make_forward(after, "subnet")(batch)
        assert torch.allclose(found.sigmoid(), reference.sigmoid(), atol=1e-5)
        trained = torch.cat(after.forward_tasks(images, [5]))
        assert torch.allclose(trained[:, 0], reference[batch.task_index == 5][:, 0], atol=1e-4)


def test_parts_put_together_again_are_the_network() -> None:
    network = make_network(backbone={"norm": "batch_per_task"}, routing={"routed_layers": (2, 5)})
    again = assemble(network, task_parts(network))
    assert again.config == network.config
    assert again.state_dict().keys() == network.state_dict().keys()
    assert all(
        torch.equal(one, network.state_dict()[name]) for name, one in again.state_dict().items()
    )


def test_a_removed_task_leaves_the_others_their_tensors() -> None:
    network = grown(make_network(backbone={"norm": "batch_per_task"}), 3, seed=0)
    assert network.config.generations == (5, 1, 1, 1)
    parts = task_parts(network)
    left = assemble(network, [part for part in parts if part.task.name not in ("kind", "new1")])
    assert left.config.generations == (4, 1, 1)
    images = sample_batch(network, 2).images
    for index, task in enumerate(left.tasks):
        before = network(images, network.tasks.position(task.name))
        assert torch.equal(left(images, index), before)


def test_one_task_becomes_two() -> None:
    """Statistics per task are one row where there is one task."""
    network = make_network(TASKS[:1], backbone={"norm": "batch_per_task"})
    after = grown(network, 1, seed=4)
    batch = RowBatch.all_pairs(sample_batch(network, 2).images, [0])
    for strategy, native in FORWARDS:
        assert same_bits(network, after, strategy, batch, workers=1, native=native), strategy
    again = assemble(after, task_parts(after)[:1])
    assert again.config == network.config
    assert shared_state(again).keys() == shared_state(network).keys()


def test_parts_in_the_wrong_order_or_of_one_name_are_refused() -> None:
    network = grown(make_network(), 1, seed=0)
    parts = task_parts(network)
    with pytest.raises(ConfigError, match="order of their generations"):
        assemble(network, parts[::-1])
    with pytest.raises(ConfigError, match="occur twice"):
        assemble(network, [*parts, replace(parts[0], generation=1)])


def test_generations_are_of_all_tasks_and_written_only_where_there_are_several() -> None:
    config = build(make_network().config).config
    assert "generations" not in config.to_json()
    assert "units" not in config.to_json()
    with pytest.raises(ValueError, match="generations"):
        config.replace(generations=(2, 2))
    several = config.replace(generations=(3, 2))
    assert ModelConfig.from_json(several.to_json()).generation_of == (0, 0, 0, 1, 1)
