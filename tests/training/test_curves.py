"""Curves: every step and every epoch is there, nothing else changes, resuming leaves no doubles."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from tests.training.conftest import tiny, tiny_images
from tests.training.test_trainer import Quiet, assert_same, interrupt, trainer, weights
from training.curves import SHOWN, Curves
from training.errors import RunInterruptedError, SettingsError


def scalars(folder: Path) -> dict[str, list[int]]:
    """Steps of every curve."""
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [point.step for point in events.Scalars(name)] for name in events.Tags()["scalars"]
    }


def test_steps_epochs_and_the_weights_of_a_run_without(tmp_path: Path) -> None:
    plain = trainer(tmp_path / "plain")
    plain.fit(Quiet())
    one = trainer(tmp_path / "state")
    with Curves(tmp_path / "curves", tiny_images(12, seed=1)) as one.curves:
        one.fit(Quiet())
    assert_same(weights(plain), weights(one))
    curves = scalars(tmp_path / "curves")
    for name in ("loss", "learning_rate", "images_per_s"):
        assert curves[f"training/{name}"] == [1, 2, 3, 4, 5, 6]
    for name in SHOWN:
        assert curves[f"validation/{name}"] == [3, 6]


def test_a_resumed_run_goes_on_where_its_state_is(tmp_path: Path) -> None:
    first = trainer(tmp_path / "state")
    with (
        Curves(tmp_path / "curves", tiny_images(0)) as first.curves,
        pytest.raises(RunInterruptedError),
    ):
        first.fit(Quiet(at=4, act=interrupt))
    second = trainer(tmp_path / "state")
    second.resume()
    with Curves(tmp_path / "curves", tiny_images(0), second.step) as second.curves:
        second.fit(Quiet())
    assert scalars(tmp_path / "curves") == {
        f"training/{name}": [1, 2, 3, 4, 5, 6] for name in ("loss", "learning_rate", "images_per_s")
    }


def test_the_network_stays_in_its_mode(tmp_path: Path) -> None:
    network = trainer(tmp_path / "state").network.train()
    with Curves(tmp_path / "curves", tiny_images(4)) as curves, torch.no_grad():
        curves.epoch(network, 1)
    assert network.training


def test_without_tensorboard_the_setting_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(SettingsError, match=r"'tensorboard_dir' .*taskroute\[train\]"):
        Curves(tmp_path, tiny_images(2))


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"'tensorboard_dir' .*cannot be written"):
        Curves(tmp_path / "file", tiny_images(2))


def test_curves_are_off_by_default() -> None:
    assert tiny().tensorboard_dir == ""
