"""The command lines: what they print, what they exit with."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from model.repository import Repository
from tests.training.conftest import TINY, PackMaker
from training.cli import main
from training.commands.options import resolve_sigma
from training.config import TrainSettings
from training.errors import SettingsError

Run = Callable[..., int]
FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
INIT = ["--width", "0.125", "--image-size", "28", "--unit-multiple", "2"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def run(root: Path) -> Run:
    def call(command: str, *arguments: str) -> int:
        return main([command, "--repository", str(root), "--name", "m", *arguments])

    return call


def test_train_prints_every_task_and_publishes(
    run: Run, root: Path, make_pack: PackMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "--data", f"pack:{make_pack()}", *FLAGS) == 0
    out, err = capsys.readouterr()
    for name in ("bright", "shade::light", "left", "mean of attribute", "mean of all tasks"):
        assert name in out
    assert f"published m version 1 in {root}" in out
    assert "training: 6/6" in err
    assert Repository(root).versions("m") == [1]


def test_evaluate_gives_the_figures_that_training_published(
    run: Run, root: Path, make_pack: PackMaker, tmp_path: Path
) -> None:
    source = f"pack:{make_pack()}"
    assert run("train", "--data", source, *FLAGS) == 0
    file = tmp_path / "figures.json"
    assert run("evaluate", "--data", source, "--split", "test", "--json", str(file)) == 0
    figures, bundle = json.loads(file.read_text()), Repository(root).read("m")
    assert figures["model"] == "m"
    assert figures["digest"] == bundle.digest
    for name, expected in bundle.metrics["tasks"].items():
        assert figures["tasks"][name] == pytest.approx(expected)
    assert figures["macro"] == pytest.approx(bundle.metrics["macro"])


def test_evaluate_of_another_split_and_version(
    run: Run, make_pack: PackMaker, tmp_path: Path
) -> None:
    source, file = f"pack:{make_pack()}", tmp_path / "figures.json"
    assert run("train", "--data", source, *FLAGS) == 0
    arguments = ["--split", "val", "--version", "1", "--json", str(file)]
    assert run("evaluate", "--data", source, *arguments) == 0
    assert json.loads(file.read_text())["split"] == "val"


def test_evaluate_on_data_with_some_of_the_tasks(
    run: Run, make_pack: PackMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "--data", f"pack:{make_pack()}", *FLAGS) == 0
    import numpy as np

    other = make_pack(
        "other.npz",
        attr=np.tile(np.array([[0, 1]], np.uint8).T, (20, 1)),
        attr_names=np.array(["left"]),
    )
    file = tmp_path / "figures.json"
    assert run("evaluate", "--data", f"pack:{other}", "--json", str(file)) == 0
    tasks = json.loads(file.read_text())["tasks"]
    assert tasks["left"]["images"] == 8
    assert tasks["bright"]["images"] == 0
    assert "without labels here: bright, shade::light" in capsys.readouterr().err


def test_init_publishes_the_next_version_each_time(
    run: Run, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in (1, 2):
        assert (
            run("init", "--tasks", "12", "--keep", "0.4", "--routed-layers", "last:2", *INIT) == 0
        )
        assert f"published m version {version}" in capsys.readouterr().out
    one, other = Repository(root).read("m", 1), Repository(root).read("m", 2)
    assert one.config == other.config
    assert len(one.config.tasks) == 12
    assert one.config.tasks[3].name == "task_03"
    assert one.config.routing.keep == 0.4
    assert all((value == other.state[name]).all() for name, value in one.state.items())


def test_init_seeds_and_groups(run: Run, root: Path) -> None:
    for seed in ("0", "1"):
        assert run("init", "--tasks", "6", "--groups", "2", "--seed", seed, *INIT) == 0
    one, other = Repository(root).read("m", 1), Repository(root).read("m", 2)
    assert [task.group for task in one.config.tasks] == ["group_0"] * 3 + ["group_1"] * 3
    name = next(name for name in one.state if name.endswith("conv.weight"))
    assert not (one.state[name] == other.state[name]).all()


@pytest.mark.parametrize(("reading", "keep"), [("paper", 0.2), ("code", 0.8)])
def test_sigma_with_its_reading(run: Run, root: Path, reading: str, keep: float) -> None:
    flags = ["--sigma", "0.2", "--sigma-reading", reading]
    assert run("init", "--tasks", "3", *flags, *INIT) == 0
    assert Repository(root).read("m").config.routing.keep == pytest.approx(keep)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sigma", "0.2"], "--sigma needs --sigma-reading"),
        (["--sigma-reading", "paper"], "--sigma needs --sigma-reading"),
        (["--sigma", "0.2", "--sigma-reading", "text"], "--sigma needs --sigma-reading"),
        (["--sigma", "0", "--sigma-reading", "paper"], "keeps no unit"),
        (["--sigma", "x", "--sigma-reading", "paper"], "must be a number"),
        (["--sigma", "0.2", "--sigma-reading", "code", "--keep", "0.8"], "the same thing"),
        (["--keep", "0"], "keep is 0.0"),
        (["--arch", "resnet34"], "known architectures"),
        (["--kep", "0.5"], "No such option: --kep"),
        (["--config", "nothing"], "no recipe of that name"),
    ],
)
def test_wrong_usage_exits_with_2(
    run: Run, root: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run("init", "--tasks", "3", *INIT, *arguments) == 2
    assert message in capsys.readouterr().err
    assert not list(root.glob("m/1"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "--data", "cvs:x.csv"], 2, "'cvs:x.csv' is no data source"),
        (["train", "--data", "csv:nowhere.csv"], 1, "nowhere.csv: cannot be read"),
        (["train", "--data", "builtin:fashion", "--tasks", "hat"], 2, "unknown task: 'hat'"),
        (["train", "--data", "builtin:fashion", "--resume"], 1, "nothing to resume"),
        (["train", "--data", "builtin:fashion", "--resume", "--restart"], 2, "exclude each other"),
        (["train"], 2, "Missing option '--data'"),
        (["evaluate", "--data", "builtin:fashion"], 1, "not a directory"),
    ],
)
def test_errors_are_one_line_and_have_their_exit_code(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert run(*arguments) == code
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_evaluate_of_a_split_without_images_or_an_unwritable_file(
    run: Run, make_pack: PackMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    source = f"pack:{make_pack()}"
    assert run("train", "--data", source, *FLAGS) == 0
    other = make_pack("other.npz", split=np.array(["train"] * 20 + ["val"] * 20))
    assert run("evaluate", "--data", f"pack:{other}") == 1
    assert "no test images" in capsys.readouterr().err
    assert run("evaluate", "--data", source, "--json", str(tmp_path / "no/such/file")) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_an_interrupt_outside_the_training_steps_is_no_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.run.train", interrupted)
    assert run("train", "--data", "builtin:fashion") == 1
    assert capsys.readouterr().err.strip().endswith("a run that had begun has --resume")


def test_help_does_not_wait_for_pytorch() -> None:
    program = (
        "import sys; from training.cli import main; code = main(['train', '--help']); "
        "sys.exit(code or ('torch' in sys.modules) * 10 + ('torchmetrics' in sys.modules) * 20)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0


def test_every_setting_has_a_flag_with_its_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    for name in TrainSettings.model_fields:
        assert f"--{name.replace('_', '-')}" in text
    shown = " ".join(text.split())
    assert "default 0.003" in shown  # of the recipe evidence
    assert "default: evidence" in shown
    assert main(["init", "--help"]) == 0
    assert "or saliency: chosen in training, after a start without routes; default independent" in (
        " ".join(capsys.readouterr().out.split())
    )


def test_a_switch_can_be_turned_both_ways() -> None:
    assert resolve_sigma({"flip": True}) == {"flip": True}
    with pytest.raises(SettingsError, match="needs --sigma-reading"):
        resolve_sigma({"sigma": "0.5"})
