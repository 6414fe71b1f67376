"""Runs of networks with a trunk per task: alone, then stitched; interrupted, they end the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.baselines.cross_stitch import OWN_SHARE
from model.baselines.towers import TowerNetwork
from model.errors import ConfigError
from tests.training.conftest import tiny, tiny_images
from tests.training.test_trainer import Quiet, assert_same, interrupt, weights
from tests.training.towers import ALONE, STITCHED, tiny_towers, tower_trainer
from training.errors import RunInterruptedError, SettingsError
from training.losses import masked_loss
from training.stages import follow_routes
from training.trainer import Trainer


def loss_of(one: Trainer) -> float:
    images = torch.from_numpy(tiny_images().pixels)
    labels = torch.from_numpy(tiny_images().labels.astype("int64"))
    with torch.no_grad():
        return masked_loss(one.network.train().forward_tasks(images, range(3)), labels).item()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """Six steps, three of them stitched, that nothing disturbed."""
    one = tower_trainer(tmp_path_factory.mktemp("whole"), **STITCHED, momentum=0.9)
    one.fit(Quiet())
    return one


@pytest.mark.parametrize("changes", [ALONE, STITCHED])
def test_they_learn(tmp_path: Path, changes: dict[str, object]) -> None:
    one = tower_trainer(tmp_path, **changes, epochs=8, momentum=0.9)
    before = loss_of(one)
    one.fit(Quiet())
    assert loss_of(one) < 0.6 * before


def test_towers_are_stitched_for_the_rest_of_the_run(whole: Trainer) -> None:
    network = whole.network
    assert isinstance(network, TowerNetwork)
    assert network.config.family == "cross_stitch"
    for unit in network.stitches.values():
        assert torch.allclose(unit.alpha.sum(dim=1), torch.ones(3))
        assert (unit.alpha.diagonal() != OWN_SHARE).all()


def test_the_start_is_that_of_single_task_networks(tmp_path: Path) -> None:
    """Before the first stitched step the towers are those of a run without any stitches."""
    stitched = tower_trainer(tmp_path / "a", **STITCHED, routed_lr_factor=0)
    kept = []

    def keep() -> None:
        kept.append({name: one for name, one in weights(stitched).items() if "towers" in name})

    stitched.fit(Quiet(at=3, act=keep))
    alone = tower_trainer(tmp_path / "b", **ALONE, epochs=1)
    alone.fit(Quiet())
    assert alone.step == 3
    towers = {name: one for name, one in weights(alone).items() if "towers" in name}
    assert_same(kept[0], towers)


@pytest.mark.parametrize("step", [2, 3, 4, 5])
def test_interrupted_anywhere_it_ends_the_same(tmp_path: Path, whole: Trainer, step: int) -> None:
    first = tower_trainer(tmp_path, **STITCHED, momentum=0.9)
    with pytest.raises(RunInterruptedError):
        first.fit(Quiet(at=step, act=interrupt))
    second = tower_trainer(tmp_path, **STITCHED, momentum=0.9)
    second.resume()
    second.fit(Quiet())
    assert_same(weights(whole), weights(second))
    assert second.network.config == whole.network.config


def test_towers_have_no_routes_to_follow(whole: Trainer) -> None:
    before = whole.network.config
    follow_routes(whole.network, whole.settings)
    assert whole.network.config == before


def test_trunks_that_do_not_fit_are_refused_before_they_are_made() -> None:
    said = r"'memory_limit_gb' is 0\.004 GB: 1 of the 3 tasks would fit"
    with pytest.raises(ConfigError, match=said):
        tiny_towers(tiny(**ALONE, memory_limit_gb=0.004))
    with pytest.raises(SettingsError, match="'freeze' is 'shared' and 'family' is 'single_task'"):
        tiny(**ALONE, freeze="shared", init_from="m/1")
