"""Tasks of several domains in one network: each row's pixels as its own domain has them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from model.assembly import assemble, task_parts
from model.config import ModelConfig
from model.extraction import cut_out
from model.network import RoutedNetwork
from model.rows import RowBatch
from model.strategies import STRATEGIES, Strategy, make_forward
from model.subnet_module import SubnetModule, SubnetsModule
from model.tasks import Normalisation
from tests.model.networks import TASKS, make_network, random_images
from tests.model.test_assembly import FORWARDS, part_like, same_bits

DARK = Normalisation(mean=(0.1, 0.2, 0.3), std=(0.2, 0.1, 0.3))
LIGHT = Normalisation(mean=(0.8, 0.7, 0.9), std=(0.1, 0.2, 0.1))
OWN = (None, DARK, LIGHT, DARK, None)
"""Of TASKS; three domains, two of them with two tasks."""


def several(**parts: Any) -> RoutedNetwork:
    tasks = [
        task.model_copy(update={"normalisation": own}) for task, own in zip(TASKS, OWN, strict=True)
    ]
    return make_network(tasks, **parts)


def of_one_domain(network: RoutedNetwork, own: Normalisation | None) -> RoutedNetwork:
    """The same weights, every task's images normalised by ``own``."""
    spec = network.config.preprocess
    if own is not None:
        spec = spec.model_copy(update={"mean": own.mean, "std": own.std})
    tasks = [task.model_copy(update={"normalisation": None}) for task in network.tasks]
    other = RoutedNetwork(network.config.replace(preprocess=spec.model_dump(), tasks=tasks))
    other.load_state_dict(network.state_dict())
    return other.eval()


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"routing": {"routed_layers": "last:2"}, "backbone": {"norm": "batch_per_task"}},
        {"routing": {"routed_layers": "none"}},
        {"backbone": {"arch": "small_cnn"}, "routing": {"modulation": "scale"}},
    ],
)
def test_each_row_is_answered_as_a_network_of_its_domain_would(
    parts: dict[str, Any], native: bool
) -> None:
    network = several(**parts)
    assert network.domain_of == (0, 1, 2, 1, 0)
    images = random_images(network, 3)
    batch = RowBatch.all_pairs(images, range(len(TASKS)))
    few = RowBatch(images, torch.tensor([0, 2, 1]), torch.tensor([2, 3, 3]))
    one = RowBatch(images, torch.tensor([0, 2]), torch.tensor([1, 1]))
    for asked in (batch, few, one):
        expected = torch.full((len(asked), 4), -torch.inf)
        for row, (image, task) in enumerate(
            zip(asked.image_index.tolist(), asked.task_index.tolist(), strict=True)
        ):
            alone = of_one_domain(network, OWN[task])(images[image : image + 1], task)
            expected[row, : alone.shape[1]] = alone
        for strategy in STRATEGIES:
            found = make_forward(network, strategy, native=native)(asked)
            assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5), strategy


def test_training_walks_the_domains_apart() -> None:
    network = several(routing={"routed_layers": "last:2"})
    images = random_images(network, 3)
    for task, logits in enumerate(network.forward_tasks(images, range(len(TASKS)))):
        assert torch.allclose(logits, network(images, task), rtol=1e-4, atol=1e-5)
    roots = network.tree(range(len(TASKS)))
    assert [root.tasks for root in roots] == [(0, 4), (1, 3), (2,)]


@pytest.mark.parametrize("tasks", [[2], [3, 1], [0, 1, 2]])
def test_what_is_cut_out_or_exported_keeps_its_domains(tasks: list[int]) -> None:
    network = several()
    small = cut_out(network, tasks)
    images = random_images(network, 2)
    together = SubnetsModule(network, tasks)(images)
    for index, task in enumerate(tasks):
        expected = network(images, task)
        assert torch.allclose(small(images, index), expected, atol=1e-5)
        assert torch.allclose(SubnetModule(network, task)(images), expected, atol=1e-5)
        assert torch.allclose(together[index], expected, atol=1e-5)


@pytest.mark.parametrize(("strategy", "native"), FORWARDS)
def test_a_task_of_a_new_domain_moves_no_old_answer(strategy: Strategy, native: bool) -> None:
    network = make_network(backbone={"norm": "batch_per_task"})
    task = TASKS[0].model_copy(update={"name": "new", "normalisation": DARK})
    parts = task_parts(network)
    after = assemble(network, [*parts, part_like(network, task, like=2, generation=1)])
    assert after.computed_by == tuple(range(6))  # like task 2's layers, of other pixels
    batch = RowBatch.all_pairs(random_images(network, 2), range(5))
    assert same_bits(network, after, strategy, batch, workers=1, native=native)


def test_only_a_task_with_its_own_is_written_with_it() -> None:
    assert "normalisation" not in make_network().config.to_json()
    config = several().config
    assert ModelConfig.from_json(config.to_json()) == config
    with pytest.raises(ValueError, match="greater than 0"):
        Normalisation(mean=(0, 0, 0), std=(1, 0, 1))
