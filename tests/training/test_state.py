"""State files: atomic, checked, and refused with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from model.network import RoutedNetwork
from tests.training.conftest import TASKS, tiny, tiny_network
from training.errors import StateError
from training.optimisation import make_optimiser
from training.resumption import check_resumable, check_startable
from training.sources import Dataset, open_source
from training.state import RunState, StateFile

STATE = RunState(
    step=3,
    total_steps=9,
    elapsed_s=1.5,
    settings=tiny().model_dump(mode="json"),
    data={"source": "s", "digest": "d"},
)


def parts(**changes: Any) -> tuple[RoutedNetwork, torch.optim.Optimizer]:
    settings = tiny(**changes)
    network = tiny_network(settings)
    return network, make_optimiser(network, settings)


@pytest.fixture
def saved(tmp_path: Path) -> StateFile:
    file = StateFile(tmp_path / "state")
    file.save(STATE, *parts())
    return file


def test_it_says_where_the_run_stands(saved: StateFile) -> None:
    assert saved.peek() == STATE
    assert saved.load(*parts()) == STATE


def test_optimiser_state_comes_back(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    network, optimiser = parts(momentum=0.9)
    momentum = torch.randn_like(network.layers[0].conv.weight)
    optimiser.state[network.layers[0].conv.weight]["momentum_buffer"] = momentum
    file.save(STATE, network, optimiser)
    other, restored = parts(momentum=0.9)
    file.load(other, restored)
    assert torch.equal(restored.state[other.layers[0].conv.weight]["momentum_buffer"], momentum)
    assert len(restored.state) == 1


def test_nothing_else_is_left_beside_it_and_remove_cleans_up(saved: StateFile) -> None:
    assert [path.name for path in saved.path.parent.iterdir()] == ["state.safetensors"]
    saved.path.with_suffix(".part").write_bytes(b"killed while it saved")
    saved.remove()
    assert not saved.path.parent.exists()
    saved.remove()


def test_a_failed_save_leaves_the_old_state_and_nothing_else(
    saved: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object, path: Path, __: object) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(StateError, match="cannot be written: no space left"):
        saved.save(STATE, *parts())
    assert saved.peek() == STATE
    assert [path.name for path in saved.path.parent.iterdir()] == ["state.safetensors"]


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"nothing to resume: there is no .*state\.safetensors"):
        StateFile(tmp_path).peek()


def test_a_damaged_file_is_named(saved: StateFile) -> None:
    saved.path.write_bytes(saved.path.read_bytes()[:100])
    with pytest.raises(StateError, match=r"state\.safetensors: cannot be read.*--restart"):
        saved.peek()


def test_another_writers_file_is_refused(saved: StateFile) -> None:
    safetensors.torch.save_file({"x": torch.zeros(1)}, saved.path, {"format": "99"})
    with pytest.raises(StateError, match="written by another version"):
        saved.peek()


def test_another_network_is_refused(saved: StateFile) -> None:
    settings = tiny()
    network = tiny_network(settings, TASKS[:2])
    with pytest.raises(StateError, match="does not fit this network"):
        saved.load(network, make_optimiser(network, settings))


@pytest.fixture
def dataset() -> Dataset:
    return open_source("builtin:fashion")


def _of(dataset: Dataset) -> RunState:
    data = {"source": dataset.source, "digest": dataset.digest}
    return RunState(3, 9, 1.5, STATE.settings, data)


def test_the_same_settings_and_data_may_go_on(tmp_path: Path, dataset: Dataset) -> None:
    file = StateFile(tmp_path)
    file.save(_of(dataset), *parts())
    check_resumable(file, tiny(), dataset)
    check_resumable(file, tiny(time_limit_s=60, checkpoint_interval_s=5), dataset)


def test_a_state_older_than_a_setting_may_go_on_with_its_default(
    tmp_path: Path, dataset: Dataset
) -> None:
    file = StateFile(tmp_path)
    old = {name: value for name, value in STATE.settings.items() if name != "label_smoothing"}
    state = _of(dataset)
    file.save(RunState(state.step, state.total_steps, 1.5, old, state.data), *parts())
    check_resumable(file, tiny(), dataset)
    with pytest.raises(StateError, match=r"differs in label_smoothing \(was 0\.0, is 0\.1\)"):
        check_resumable(file, tiny(label_smoothing=0.1), dataset)


def test_other_settings_or_data_are_named(tmp_path: Path, dataset: Dataset) -> None:
    file = StateFile(tmp_path)
    file.save(_of(dataset), *parts())
    with pytest.raises(StateError, match=r"differs in keep \(was 0\.5, is 0\.25\), lr"):
        check_resumable(file, tiny(lr=0.5, keep=0.25), dataset)
    file.save(STATE, *parts())
    with pytest.raises(StateError, match=r"differs in data \(was s, is builtin:fashion"):
        check_resumable(file, tiny(), dataset)


def test_a_new_run_does_not_overwrite_an_interrupted_one(saved: StateFile, tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"step 3 of 9.*--resume .*--restart"):
        check_startable(saved)
    check_startable(StateFile(tmp_path / "elsewhere"))
