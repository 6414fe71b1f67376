"""Refreshes of a small model: published, refused, resumed, and beside each other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.repository import Repository
from tests.training.refresh.first_version import publish_first, refreshed, write_pack
from training.cli import main
from training.errors import DataError, RunInterruptedError, SettingsError, StateError
from training.refresh.refresh import GateRefusedError, Refreshed, _Refresh
from training.refresh.settings import GateSettings
from training.run import Candidate
from training.trainer import Trainer

# Of 80 images, and of little training, it says little.
ANY_CALIBRATION = GateSettings(max_ece_rise=1, max_task_ece_rise=1)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pack and version 1. Not to be written to."""
    root = tmp_path_factory.mktemp("first")
    publish_first(root, write_pack(root / "pack.npz"))
    return root


@pytest.fixture
def root(published: Path, tmp_path: Path) -> Path:
    shutil.copytree(published, tmp_path / "root")
    return tmp_path / "root"


def source(root: Path) -> str:
    return f"pack:{root / 'pack.npz'}"


def latest(root: Path) -> int:
    return Repository(root / "models").latest("m")


def left(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "models/m/.training").glob("refresh-*"))


def test_a_better_version_is_published_with_its_report(root: Path) -> None:
    found, said = refreshed(root, source(root))
    repository = Repository(root / "models")
    old, new = repository.read("m", 1), repository.read("m")
    assert (found.version, latest(root)) == (2, 2)
    assert "8 of 8 convolutions and 3 of 3 heads copied" in said
    assert new.manifest.parent is not None
    assert (new.manifest.parent.version, new.manifest.parent.digest) == (1, old.digest)
    told = new.metrics["refresh"]
    assert told["passed"]
    assert told["old"] == told["trained_from"] == {"version": 1, "digest": old.digest}
    assert told["macro"]["average_precision"]["difference"] > 0
    assert told["tasks"]["left"]["moved"]["largest"] > 0
    # What was evaluated is what was published.
    assert told["tasks"]["left"]["average_precision"]["old"] == pytest.approx(
        old.metrics["tasks"]["left"]["average_precision"], abs=1e-4
    )
    assert told["tasks"]["left"]["average_precision"]["new"] == pytest.approx(
        new.metrics["tasks"]["left"]["average_precision"], abs=1e-4
    )
    recipe = {**old.metrics["training"]["settings"], **{"epochs": 3.0}}
    recipe["init_from"] = str(root / "models/m/1")
    assert new.metrics["training"]["settings"] == recipe
    assert left(root) == []


def test_wrong_labels_are_refused_whatever_both_versions_say(root: Path) -> None:
    refreshed(root, source(root))
    wrong = write_pack(root / "wrong.npz", seed=3, shuffled=True)
    with pytest.raises(GateRefusedError, match="version 2 of m stays the latest") as refusal:
        refreshed(root, wrong)
    names = [condition.name for condition in refusal.value.report.failed]
    assert "macro AUROC as published" in names
    assert Repository(root / "models").versions("m") == [1, 2]
    assert left(root) == []


def test_the_command_exits_with_3_and_writes_the_report(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong, file = write_pack(root / "wrong.npz", seed=3, shuffled=True), root / "report.json"
    refreshed(root, source(root))
    arguments = ["refresh", "--repository", str(root / "models"), "--name", "m", "--data", wrong]
    assert main([*arguments, "--epochs", "1", "--json", str(file)]) == 3
    out, err = capsys.readouterr()
    assert "REFUSED macro AUROC as published" in out
    assert "left" in out
    assert "error: refused: " in err
    assert not json.loads(file.read_text())["passed"]
    assert latest(root) == 2
    assert main([*arguments, "--max-macro-drop", "2"]) == 2
    assert "'max_macro_drop' is 2" in capsys.readouterr().err
    assert main([*arguments, "--init-from", "x"]) == 2
    assert main([*arguments, "--resume", "--restart"]) == 2


def test_tasks_without_labels_are_refused_before_training(root: Path) -> None:
    path = root / "some.npz"
    pack = dict(np.load(root / "pack.npz"))
    np.savez(path, **(pack | {"attr": pack["attr"][:, :2], "attr_names": pack["attr_names"][:2]}))
    with pytest.raises(DataError, match="no training image has a label for left"):
        refreshed(root, f"pack:{path}")


def test_new_tasks_in_the_data_change_nothing_of_what_is_answered(root: Path) -> None:
    path = root / "more.npz"
    pack = dict(np.load(root / "pack.npz"))
    attr = np.concatenate([pack["attr"][:, :1], pack["attr"]], axis=1)
    names = np.array(["first", *pack["attr_names"]])
    np.savez(path, **(pack | {"attr": attr, "attr_names": names}))
    refreshed(root, f"pack:{path}")
    repository = Repository(root / "models")
    one, other = (repository.read("m", version).config.task_set.names for version in (1, 2))
    assert one == other


class Stop:
    """Interrupts training before a step, once."""

    def __init__(self, step: int) -> None:
        self.step, self.original = step, Trainer._train_step

    def __call__(self, trainer: Trainer, batch: Any) -> float:
        if trainer.step == self.step:
            trainer.stop.requested = True
        return self.original(trainer, batch)


def interrupted(root: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    with monkeypatch.context() as patch:
        stop = Stop(4)
        patch.setattr(Trainer, "_train_step", lambda trainer, batch: stop(trainer, batch))
        with pytest.raises(RunInterruptedError):
            refreshed(root, source(root), **changes)


def test_an_interrupted_refresh_is_resumed_to_the_same_weights(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(root, monkeypatch)
    assert len(left(root)) == 1
    with pytest.raises(StateError, match="--resume goes on with it"):
        refreshed(root, source(root))
    refreshed(root, source(root), resume=True)
    assert (latest(root), left(root)) == (2, [])
    resumed = Repository(root / "models").read("m", 2)
    Repository(root / "models").set_latest("m", 1)
    refreshed(root, source(root))
    whole = Repository(root / "models").read("m", 3)
    assert all(torch.equal(value, whole.state[name]) for name, value in resumed.state.items())


def test_resume_without_anything_to_resume_begins(root: Path) -> None:
    _, said = refreshed(root, source(root), resume=True)
    assert "a new one begins" in said
    assert latest(root) == 2


def meanwhile(root: Path, monkeypatch: pytest.MonkeyPatch, other: Any) -> None:
    """Let ``other`` happen after the candidate was judged, once."""
    original = _Refresh._judged
    calls: list[bool] = []

    def judged(self: _Refresh, candidate: Candidate, *rest: Any) -> Any:
        report = original(self, candidate, *rest)
        if not calls:
            calls.append(True)
            other()
        return report

    monkeypatch.setattr(_Refresh, "_judged", judged)


def test_a_version_published_meanwhile_is_judged_against_and_comes_first(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other() -> None:
        repository = Repository(root / "models")
        repository.publish("m", repository.read("m").network(), {}, "card", parent=1)

    meanwhile(root, monkeypatch, other)
    found, said = refreshed(root, source(root))
    assert (found.version, latest(root)) == (3, 3)
    assert "the candidate is judged again" in said
    bundle = Repository(root / "models").read("m")
    assert bundle.manifest.parent is not None
    assert bundle.manifest.parent.version == 2
    assert bundle.metrics["refresh"]["old"]["version"] == 2
    assert bundle.metrics["refresh"]["trained_from"]["version"] == 1


def test_a_better_version_published_meanwhile_stays(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best: list[Refreshed] = []

    def other() -> None:
        best.append(refreshed(root, source(root), epochs=6, gate=ANY_CALIBRATION)[0])

    meanwhile(root, monkeypatch, other)
    with pytest.raises(GateRefusedError, match="version 2 of m stays"):
        refreshed(root, source(root), epochs=0.2, lr=1e-6)
    assert best[0].version == latest(root) == 2


def test_a_run_killed_behind_the_rename_is_finished_not_repeated(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("training.refresh.refresh.finished", _killed)
        with pytest.raises(KeyboardInterrupt):
            refreshed(root, source(root))
    repository = Repository(root / "models")
    repository.set_latest("m", 1)  # as if it had been killed before LATEST was written
    (root / f"models/m/.training/{left(root)[0]}/state.safetensors").touch()
    found, _ = refreshed(root, source(root), resume=True)
    assert (found.version, found.report, latest(root)) == (2, None, 2)
    assert repository.versions("m") == [1, 2]
    assert left(root) == []


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_other_settings_than_before_are_told_and_some_cannot_be(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match="'tasks' cannot be given to refresh"):
        refreshed(root, source(root), tasks="left")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SettingsError, match="refresh runs in one process"):
        refreshed(root, source(root))


def test_a_bundle_that_says_nothing_of_its_training_gives_its_network(
    root: Path, tmp_path: Path
) -> None:
    repository = Repository(root / "models")
    repository.publish("m", repository.read("m").network(), {}, "card")
    refreshed(root, source(root), lr=0.05, batch_size=16, gate=ANY_CALIBRATION)
    one, other = repository.read("m", 2).config, repository.read("m", 3).config
    assert one.backbone == other.backbone
    assert one.routing == other.routing
    assert one.preprocess.height == other.preprocess.height
