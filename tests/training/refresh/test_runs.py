"""Folders of runs: several at once, resumed, thrown away."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.errors import StateError
from training.refresh.report import VersionName
from training.refresh.runs import Plan, Run, entered, finished

OLD = VersionName(1, "sha256:a")
PLAN = Plan(source="x", data_digest="d", parent=OLD, settings={"lr": 1, "init_from": "m/1"})


def enter(
    root: Path,
    plan: Plan = PLAN,
    *,
    saved: bool = True,
    resume: bool = False,
    restart: bool = False,
) -> tuple[Run, int]:
    """Begin a run and die, with or without a saved state."""
    with entered(root, plan, lambda *_: None, resume=resume, restart=restart) as (run, dropped):
        if saved:
            (run.folder / "state.safetensors").touch()
    return run, dropped


def test_an_interrupted_run_is_not_overwritten(tmp_path: Path) -> None:
    run, _ = enter(tmp_path)
    with pytest.raises(StateError, match="--resume goes on with it"):
        enter(tmp_path)
    assert run.folder.is_dir()


def test_resume_goes_on_with_a_run_of_the_same_work_from_whatever_version(tmp_path: Path) -> None:
    run, _ = enter(tmp_path)
    later = PLAN.model_copy(
        update={"parent": VersionName(2, "sha256:b"), "settings": {"lr": 1, "init_from": "m/2"}}
    )
    again, dropped = enter(tmp_path, later, resume=True)
    assert (again.name, again.resumes, dropped) == (run.name, True, 0)
    assert again.plan == PLAN
    finished(again)
    assert not run.folder.exists()


@pytest.mark.parametrize("changes", [{"data_digest": "e"}, {"settings": {"lr": 2}}])
def test_resume_throws_away_runs_of_other_work(tmp_path: Path, changes: dict[str, object]) -> None:
    run, _ = enter(tmp_path)
    other, dropped = enter(tmp_path, PLAN.model_copy(update=changes), resume=True)
    assert (other.resumes, dropped) == (False, 1)
    assert not run.folder.exists()


def test_restart_throws_all_away(tmp_path: Path) -> None:
    enter(tmp_path)
    run, dropped = enter(tmp_path, restart=True)
    assert (run.resumes, dropped) == (False, 1)


def test_a_run_that_had_saved_nothing_is_nobodys_concern(tmp_path: Path) -> None:
    run, _ = enter(tmp_path, saved=False)
    other, dropped = enter(tmp_path)
    assert dropped == 0
    assert not run.folder.exists()
    assert other.name != run.name


def test_a_living_run_is_left_alone(tmp_path: Path) -> None:
    with entered(tmp_path, PLAN, lambda *_: None, resume=False, restart=False) as (alive, _):
        (alive.folder / "state.safetensors").touch()
        for resume, restart in ((False, False), (True, False), (False, True)):
            other, dropped = enter(tmp_path, saved=False, resume=resume, restart=restart)
            assert (other.name != alive.name, dropped) == (True, 0)
        assert (alive.folder / "state.safetensors").exists()


def test_a_run_that_had_published_is_told_so(tmp_path: Path) -> None:
    run, _ = enter(tmp_path)
    asked = []

    def published(name: str, plan: Plan) -> int:
        asked.append((name, plan))
        return 7

    with entered(tmp_path, PLAN, published, resume=True, restart=False) as (again, _):
        assert again.version == 7
    assert asked == [(run.name, PLAN)]
