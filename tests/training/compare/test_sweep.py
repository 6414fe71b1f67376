"""A comparison from the command line: cut short, gone on with, and read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.training.conftest import TINY, PackMaker
from training.cli import main
from training.compare import runner
from training.compare.cells import CellStore
from training.errors import DivergedError
from training.run import train
from training.trainer import Trainer

SETTINGS = {name: value for name, value in TINY.items() if name != "epochs"}
FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
FLAGS += ["--bootstrap-resamples=0", "--threads=1"]
SAMPLE = ["--data=builtin:fashion", "--tasks=group:class"]
KEYS = ["shared-tasks2-seed0", "evidence-keep0.5-tasks2-seed0"]


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


@pytest.fixture
def pack(make_pack: PackMaker) -> str:
    """Forty images; three tasks with labels for both classes in every split."""
    return f"--data=pack:{make_pack()}"


def compare(root: Path, *arguments: str) -> int:
    return main(
        [
            "compare", f"--out={root / 'out'}", f"--cache-dir={root / 'cache'}", "--keeps=0.5",
            "--methods=shared,evidence", "--task-counts=2", *FLAGS, *arguments,
        ]
    )  # fmt: skip


def cells(root: Path) -> dict[str, Any]:
    return {
        path.stem: json.loads(path.read_text()) for path in sorted((root / "out/cells").iterdir())
    }


def kill_when_saved(patch: pytest.MonkeyPatch) -> None:
    original = Trainer._train_step

    def killed(self: Trainer, batch: Any) -> float:
        if self.settings.scheme == "saliency" and self.state_file.exists():
            raise Killed
        return original(self, batch)

    patch.setattr(Trainer, "_train_step", killed)


def never(*_: Any) -> Any:
    raise AssertionError("trained again")


def test_a_killed_comparison_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    often = [*SAMPLE, "--budget-s=0.5", "--checkpoint-interval-s=0.05"]
    with monkeypatch.context() as patch:
        kill_when_saved(patch)
        with pytest.raises(Killed):
            compare(tmp_path, *often)
    first = cells(tmp_path)
    assert list(first) == [KEYS[0]]
    resumed: list[int] = []
    original = Trainer.resume

    def resume(self: Trainer) -> None:
        original(self)
        resumed.append(self.step)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "resume", resume)
        assert compare(tmp_path, *often) == 0
    assert len(resumed) == 1
    assert resumed[0] > 0
    assert "1 of 2 runs are there already" in capsys.readouterr().err
    done = cells(tmp_path)
    assert sorted(done) == sorted(KEYS)
    assert done[KEYS[0]] == first[KEYS[0]]
    assert [path.name for path in (tmp_path / "out/running").iterdir()] == ["starts"]
    assert done[KEYS[1]]["training"]["steps"] >= resumed[0]

    monkeypatch.setattr(runner, "train", never)
    page = (tmp_path / "out/README.md").read_text()
    assert compare(tmp_path, *often) == 0
    assert (tmp_path / "out/README.md").read_text() == page


def test_killed_before_a_result_is_kept_nothing_is_trained_again(
    tmp_path: Path, pack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [pack, "--methods=shared", "--epochs=1"]
    running = tmp_path / "out/running"

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(CellStore, "write", killed)
        with pytest.raises(Killed):
            compare(tmp_path, *arguments)
    monkeypatch.setattr(runner, "train", never)
    with monkeypatch.context() as patch:
        patch.setattr(runner.Runner, "forget", killed)
        with pytest.raises(Killed):
            compare(tmp_path, *arguments)
    assert list(cells(tmp_path)) == KEYS[:1]
    assert list(running.iterdir())
    assert compare(tmp_path, *arguments) == 0
    assert list(running.iterdir()) == []


def test_cells_that_differ_in_routes_only_share_one_start(
    tmp_path: Path, pack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [pack, "--methods=evidence,evidence-all", "--epochs=2", "--task-counts=3"]
    steps: list[str] = []
    original = Trainer._train_step

    def counted(self: Trainer, batch: Any) -> float:
        steps.append(str(self.settings.routed_layers))
        return original(self, batch)

    monkeypatch.setattr(Trainer, "_train_step", counted)
    assert compare(tmp_path, *arguments) == 0
    alone = tmp_path / "alone"
    assert compare(alone, *arguments, "--methods=evidence-all") == 0
    # 6 steps, of which the start has 5; the second method took over those of the first.
    assert steps == ["last:2"] * 6 + ["all"] * (1 + 6)
    key = "evidence-all-keep0.5-tasks3-seed0"
    shared, own = cells(tmp_path)[key], cells(alone)[key]
    assert shared["per_task"] == own["per_task"]
    assert shared["training"]["steps"] == own["training"]["steps"] == 6


def table_row(page: str, method: str) -> list[str]:
    line = next(line for line in page.splitlines() if line.startswith(f"| {method} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_says_what_the_cells_say(
    tmp_path: Path, pack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(tmp_path, pack, "--seeds=2", "--epochs=2") == 0
    out = tmp_path / "out"
    page, result, done = (out / "README.md").read_text(), out / "result.json", cells(tmp_path)
    rows = {row["method"]: row for row in json.loads(result.read_text())["rows"]}
    printed = capsys.readouterr().out
    for key in ("shared-tasks2", "evidence-keep0.5-tasks2"):
        one, other = done[f"{key}-seed0"], done[f"{key}-seed1"]
        assert one["figures"] != other["figures"]
        for position, name in (
            (2, "accuracy"),
            (3, "precision"),
            (4, "recall"),
            (6, "average_precision"),
        ):
            values = [cell["figures"][name] for cell in (one, other)]
            mean = sum(values) / 2
            assert rows[one["method"]]["figures"][name]["mean"] == pytest.approx(mean)
            assert table_row(page, one["method"])[position].split(" ± ")[0] == f"{mean:.3f}"
            if name == "accuracy":
                assert f"{mean:.3f}" in printed
        assert {cell["training"]["steps"] for cell in (one, other)} == {6}
    majority = done["shared-tasks2-seed0"]["figures"]["majority"]
    assert table_row(page, "majority")[2] == f"{majority:.3f}"
    assert table_row(page, "shared")[10:12] == ["1.00", "1"]
    assert table_row(page, "evidence")[11] == "2"
    for file in ("keep-2-tasks.png", "cost-2-tasks.png"):
        assert f"({file})" in page
        assert (out / file).stat().st_size > 1000
    for path in out.rglob("*.json"):
        assert str(tmp_path) not in path.read_text()
    assert str(tmp_path) not in page


def test_counts_of_tasks_have_tables_of_their_own(tmp_path: Path, pack: str) -> None:
    arguments = ["--task-counts=3,1", "--methods=shared,single", "--epochs=3"]
    assert compare(tmp_path, pack, *arguments) == 0
    page = (tmp_path / "out/README.md").read_text()
    for heading in (
        "## Against keep, 1 tasks",
        "## Against keep, 3 tasks",
        "## Against the number",
    ):
        assert heading in page
    done = cells(tmp_path)
    single = done["single-tasks3-seed0"]
    assert single["cost"] == {"passes": 3.0, "masked_passes": 3}
    assert len(single["per_task"]) == 3
    # The networks together have the budget of one.
    assert single["training"]["steps"] == done["shared-tasks3-seed0"]["training"]["steps"] == 9
    assert (tmp_path / "out/tasks-keep-1.png").is_file()


def test_a_trunk_per_task_is_compared_with_what_it_costs(tmp_path: Path, pack: str) -> None:
    arguments = ["--methods=hard-sharing,single-task,cross-stitch", "--epochs=2"]
    assert compare(tmp_path, pack, *arguments, "--budget-s=0.3") == 2
    assert compare(tmp_path, pack, *arguments) == 0
    done = cells(tmp_path)
    shared, alone, stitched = (
        done[f"{name}-tasks2-seed0"] for name in ("shared", "single-task", "cross-stitch")
    )
    assert alone["cost"] == {"passes": 2.0, "masked_passes": 2.0}
    assert 2.0 < stitched["cost"]["passes"] < 2.1
    trunk = alone["size"]["parameters"] - shared["size"]["parameters"]
    stitches = stitched["size"]["parameters"] - alone["size"]["parameters"]
    assert (trunk > 0.9 * shared["size"]["parameters"], stitches) == (True, 4 * 2**2)
    page = (tmp_path / "out/README.md").read_text()
    row = table_row(page, "cross-stitch")
    assert row[-2] == f"{stitched['size']['parameters'] / 1e6:.3g}"
    assert row[-1] == f"{stitched['size']['bundle_bytes'] / 1e6:.3g}"
    assert compare(tmp_path, pack, *arguments, "--stitch-lr-factor=7") == 1  # other settings


def test_a_trunk_per_task_fills_a_budget_of_time(tmp_path: Path, pack: str) -> None:
    assert compare(tmp_path, pack, "--methods=cross-stitch", "--budget-s=0.5") == 0
    training = cells(tmp_path)["cross-stitch-tasks2-seed0"]["training"]
    assert training["steps"] > 2
    assert 0.3 < training["seconds"] < 2


def test_other_settings_do_not_mix_with_what_is_there(
    tmp_path: Path, pack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = [pack, "--methods=shared", "--epochs=1"]
    assert compare(tmp_path, *quick) == 0
    assert compare(tmp_path, *quick, "--lr=0.5") == 1
    assert "lr (was 0.05, is 0.5)" in capsys.readouterr().err


def test_a_run_that_diverges_is_a_result(
    tmp_path: Path, pack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverging(request: Any, console: Any) -> Any:
        if request.settings.scheme == "saliency":
            raise DivergedError("the loss is nan at step 3")
        return train(request, console)

    monkeypatch.setattr(runner, "train", diverging)
    assert compare(tmp_path, pack, "--epochs=1") == 0
    assert cells(tmp_path)[KEYS[1]]["failure"] == "the loss is nan at step 3"
    page = (tmp_path / "out/README.md").read_text()
    assert "- evidence, keep 0.5, 2 tasks: seed 0" in page
    assert table_row(page, "evidence")[2] == "–"


def test_a_method_refused_for_memory_is_a_result_until_the_limit_allows_it(
    tmp_path: Path, pack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [pack, "--methods=cross-stitch,shared", "--epochs=1"]
    assert compare(tmp_path, *arguments, "--memory-limit-gb=0.004") == 0
    said = "refused: needs 0.00465 GB, limit 0.004"
    assert said in " ".join(capsys.readouterr().out.split())
    page = (tmp_path / "out/README.md").read_text()
    assert f"- cross-stitch, keep 1, 2 tasks: seed 0: {said} (setting `memory_limit_gb`)" in page
    assert table_row(page, "cross-stitch")[2:5] == [said, "–", "–"]
    assert table_row(page, "shared")[2] != "–"
    assert compare(tmp_path, *arguments) == 0
    assert "1 of 2 runs are there already" in capsys.readouterr().err
    page = (tmp_path / "out/README.md").read_text()
    assert "refused" not in page
    assert table_row(page, "cross-stitch")[2] != "–"


def test_an_interrupted_comparison_leaves_a_page_of_what_is_done(
    tmp_path: Path,
    pack: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    original = Trainer._train_step

    def interrupted(self: Trainer, batch: Any) -> float:
        self.stop.requested = self.settings.scheme == "saliency"
        return original(self, batch)

    monkeypatch.setattr(Trainer, "_train_step", interrupted)
    assert compare(tmp_path, pack, "--epochs=1") == 1
    assert "the same command goes on from there" in capsys.readouterr().err
    page = (tmp_path / "out/README.md").read_text()
    assert "Not finished: 1 of 2 runs are in the tables" in page
    assert "| shared |" in page
    assert "| evidence |" not in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds=1"], "either --budget-s SECONDS or --epochs N"),
        (["--budget-s=1", "--epochs=2"], "either --budget-s SECONDS or --epochs N"),
        (["--budget-s=0"], "it must be above 0"),
        (["--epochs=1", "--keep=0.5"], "'keep' is what compare varies: give --keeps"),
        (["--epochs=1", "--seed=3"], "give --seeds"),
        (["--epochs=1", "--keeps=0.5,much"], "it takes numbers"),
        (["--epochs=1", "--keeps=1.5"], "keep"),
        (["--epochs=1", "--keeps=0", "--methods=shared,paper"], "every task needs keep > 0"),
        (["--budget-s=inf"], "'time_limit_s' is inf"),
        (["--epochs=1", "--methods=best"], "there is no method 'best'"),
        (["--epochs=1", "--task-counts=99"], "--task-counts has 99"),
        (["--epochs=1", "--scheme=partition"], "is what makes method 'shared'"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_trained(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(runner, "train", never)
    assert compare(tmp_path, *SAMPLE, *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
