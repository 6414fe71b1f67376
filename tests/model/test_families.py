"""Bundles of every family: published, read back, and run by what suits them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from model.config import Family, ModelConfig
from model.errors import ConfigError
from model.families import build, unfilled
from model.network import RoutedNetwork
from model.repository import Repository
from model.rows import RowBatch
from model.self_check import largest_probability_difference
from model.strategies import MaskedForward, StitchedForward, make_forward
from tests.model.baselines.towers import make_towers, tower_config
from tests.model.networks import make_config, make_network, random_images

TOWERS: tuple[Family, ...] = ("single_task", "cross_stitch")


def batch_of(images: torch.Tensor) -> RowBatch:
    """Rows of several tasks, in no order, two of them of the same image and task."""
    index = torch.tensor([1, 0, 2, 1, 1])
    return RowBatch(images, index, torch.tensor([4, 1, 0, 0, 4]))


def test_the_family_decides_what_is_made() -> None:
    assert isinstance(build(make_config()), RoutedNetwork)
    for family in TOWERS:
        network = build(tower_config(family))
        assert network.config.family == family
        assert unfilled(network.config).state_dict().keys() == network.state_dict().keys()


def test_bundles_of_routed_networks_say_nothing_of_families() -> None:
    assert "family" not in make_config().to_json()
    config = tower_config("cross_stitch")
    assert ModelConfig.from_json(config.to_json()) == config


def test_towers_have_no_routes_and_no_additions() -> None:
    config = make_config()
    with pytest.raises(
        ValidationError, match=r"routed_layers is 'all'.*set routed_layers to 'none'"
    ):
        config.replace(family="single_task")
    with pytest.raises(ValidationError, match="2 generations"):
        tower_config("single_task").replace(generations=(3, 2))


@pytest.mark.parametrize("family", TOWERS)
def test_a_published_bundle_answers_as_before(family: Family, tmp_path: Path) -> None:
    network = make_towers(family)
    store = Repository(tmp_path)
    store.publish("towers", network, {}, "# towers\n")
    bundle = store.read("towers")
    images = random_images(make_network(), 3)
    read = bundle.any_network()
    for task in range(len(network.tasks)):
        assert torch.equal(read(images, task), network(images, task))
    with pytest.raises(ConfigError, match=f"family '{family}'.*on family 'routed' only"):
        bundle.network()


@pytest.mark.parametrize("family", TOWERS)
@pytest.mark.parametrize("strategy", ["auto", "masked"])
def test_rows_are_answered_whole(family: Family, strategy: str) -> None:
    network = make_towers(family)
    forward = make_forward(network, "auto" if strategy == "auto" else "masked")
    assert isinstance(forward, StitchedForward if family == "cross_stitch" else MaskedForward)
    assert (forward.name, forward.kernels) == ("masked", "pytorch")
    images = random_images(make_network(), 3)
    logits = forward(batch_of(images))
    assert logits.shape == (5, 4)
    for row, (image, task) in enumerate([(1, 4), (0, 1), (2, 0), (1, 0), (1, 4)]):
        outputs = network.tasks[task].outputs
        expected = network(images[image : image + 1], task)[0]
        assert torch.allclose(logits[row, :outputs], expected, atol=1e-5)
        assert torch.isneginf(logits[row, outputs:]).all()
    assert largest_probability_difference(forward, network) < 1e-6


@pytest.mark.parametrize("family", TOWERS)
@pytest.mark.parametrize("strategy", ["mixed", "subnet"])
def test_what_cuts_routes_is_refused(family: Family, strategy: str) -> None:
    message = f"strategy is '{strategy}' and the model's family is '{family}'.*'auto' or 'masked'"
    with pytest.raises(ConfigError, match=message):
        make_forward(make_towers(family), "mixed" if strategy == "mixed" else "subnet")
