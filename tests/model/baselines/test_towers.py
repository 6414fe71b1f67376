"""A trunk per task: alone each is a network of its task, stitched they are the paper's equation."""

from __future__ import annotations

import pytest
import torch

from model.baselines.towers import TowerNetwork
from model.config import Family
from model.errors import ConfigError
from model.families import build_towers
from model.network import RoutedNetwork
from tests.model.baselines.towers import make_towers, tower_config
from tests.model.networks import TASKS, random_images

FAMILIES: tuple[Family, ...] = ("single_task", "cross_stitch")


def alone(network: TowerNetwork, task: int) -> RoutedNetwork:
    """A network of one task, with the weights of its tower."""
    one = network.config.replace(family="routed", tasks=[TASKS[task].model_dump()])
    routed = RoutedNetwork(one)
    for layer, source in zip(routed.layers, network.towers[task], strict=True):
        layer.load_state_dict(source.state_dict())
    routed.heads.copy_task(0, network.heads, task)
    return routed.eval()


@pytest.mark.parametrize("embedding", [0, 4])
def test_alone_a_tower_is_a_network_of_its_task(embedding: int) -> None:
    network = make_towers("single_task", head={"embedding": embedding})
    images = random_images(alone(network, 0), 3)
    for task in range(len(TASKS)):
        assert torch.equal(network(images, task), alone(network, task)(images, 0))


def test_stitched_towers_by_hand() -> None:
    network = make_towers("cross_stitch", head={"embedding": 0})
    images = random_images(alone(network, 0), 3)
    xs = [network.normalise(images)] * len(TASKS)
    pools = [index for index, layer in enumerate(network.towers[0]) if layer.shape.pool]
    assert [int(key) for key in network.stitches] == pools
    assert len(pools) == 4
    for index in range(len(network.towers[0])):
        xs = [tower[index](x, 0) for tower, x in zip(network.towers, xs, strict=True)]
        if index in pools:
            xs = network.stitches[str(index)](xs)
    for task, x in enumerate(xs):
        expected = network.heads.forward_features(x.mean(dim=(2, 3)), task, None)
        assert torch.allclose(network(images, task), expected, atol=1e-6)
        assert not torch.allclose(expected, alone(network, task)(images, 0), atol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_way_to_ask_gives_the_same_logits(family: Family) -> None:
    network = make_towers(family)
    images = random_images(alone(network, 0), 4)
    tasks = torch.tensor([3, 1, 1, 4])
    rows = network(images, tasks)
    together = network.forward_tasks(images, [4, 1, 3, 1])
    for row, task in enumerate(tasks.tolist()):
        outputs = TASKS[task].outputs
        assert torch.allclose(rows[row, :outputs], network(images, task)[row], atol=1e-6)
        assert torch.isneginf(rows[row, outputs:]).all()
    for logits, task in zip(together, [4, 1, 3, 1], strict=True):
        assert torch.allclose(logits, network(images, task), atol=1e-6)


@pytest.mark.parametrize(("family", "touched"), [("single_task", {2}), ("cross_stitch", {0, 2})])
def test_a_tasks_loss_reaches_other_towers_through_stitches_only(
    family: Family, touched: set[int]
) -> None:
    network = make_towers(family).train()
    if family == "cross_stitch":
        with torch.no_grad():  # towers 1, 3 and 4 give nothing to tower 2
            for unit in network.stitches.values():
                unit.shares.zero_()
                unit.shares[2, 0] = 0.3
    loss = network(random_images(alone(network, 0), 4), 2).sum()
    loss.backward()
    reached = {
        index
        for index, tower in enumerate(network.towers)
        if tower[0].conv.weight.grad is not None and tower[0].conv.weight.grad.abs().sum() > 0
    }
    assert reached == touched


def test_single_task_networks_become_the_towers_of_a_stitched_one() -> None:
    network = make_towers("single_task")
    before = dict(network.named_parameters())
    network.stitch()
    assert network.config.family == "cross_stitch"
    after = dict(network.named_parameters())
    assert all(after[name] is value for name, value in before.items())
    assert set(after) - set(before) == {f"stitches.{index}.shares" for index in (0, 1, 3, 5)}
    loaded = TowerNetwork(network.config)
    loaded.load_state_dict(network.state_dict())
    images = random_images(alone(network, 0), 2)
    assert torch.equal(loaded.eval()(images, 1), network(images, 1))


def test_towers_are_drawn_from_the_seed_each_in_its_own_way() -> None:
    config = tower_config("single_task")
    first, again, other = (build_towers(config, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    name = "towers.{}.0.conv.weight"
    assert not torch.equal(first[name.format(0)], first[name.format(1)])
    assert not torch.equal(first[name.format(0)], other[name.format(0)])


@pytest.mark.parametrize("family", FAMILIES)
def test_tasks_and_images_that_it_does_not_have_are_refused(family: Family) -> None:
    network = make_towers(family)
    images = random_images(alone(network, 0), 2)
    with pytest.raises(IndexError, match="this network has tasks 0 to 4"):
        network.forward_tasks(images, [5])
    with pytest.raises(ValueError, match=r"shape \[3\] for 2 images"):
        network(images, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="images must be uint8"):
        network(images.float(), 0)


@pytest.mark.parametrize(
    "backbone", [{"arch": "resnet18"}, {"arch": "vgg11_bn", "norm": "batch_per_domain"}]
)
def test_trunks_that_are_no_chains_of_one_tasks_own_are_refused(backbone: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"towers are chains of convolutions.*take vgg"):
        TowerNetwork(tower_config("single_task", backbone=backbone))
