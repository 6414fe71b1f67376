"""Training commands with a repository that is no directory: fsspec's store in memory."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
import torch
from typer import Typer
from typer.testing import CliRunner

from model import plan
from model.repository import Repository
from tests.training.conftest import TINY, PackMaker, tiny, tiny_network
from training.cli import main
from training.warm_start import read_warm_start

FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty repository; copies and states are kept in the test's own folder."""
    monkeypatch.setenv("TASKROUTE_BUNDLE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return f"memory://{uuid.uuid4().hex}/models"


def test_train_publishes_there_and_evaluate_reads_it(
    url: str, make_pack: PackMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--repository", url, "--name", "m"]
    source = f"pack:{make_pack()}"
    assert main(["train", "--data", source, *where, *FLAGS]) == 0
    assert f"published m version 1 in {url}" in capsys.readouterr().out
    file = tmp_path / "figures.json"
    assert main(["evaluate", "--data", source, *where, "--json", str(file)]) == 0
    assert json.loads(file.read_text())["digest"] == Repository(url).read("m").digest
    assert list(tmp_path.glob("state/**/*.safetensors")) == []


def test_init_and_plan_take_a_url(url: str) -> None:
    size = ["--tasks", "3", "--width", "0.125", "--image-size", "28", "--unit-multiple", "2"]
    assert main(["init", "--repository", url, "--name", "m", *size]) == 0
    app = Typer()
    app.command()(plan._main)
    result = CliRunner().invoke(app, [f"{url}/m"])
    assert result.exit_code == 0, result.output
    assert "3 tasks of one image" in result.output


def test_weights_begin_with_those_of_a_bundle_there(url: str) -> None:
    repository = Repository(url)
    networks = [tiny_network(tiny(seed=seed)) for seed in (1, 2)]
    for network in networks:
        repository.publish("m", network.eval(), {"tasks": {}, "macro": {}}, "card")
    for location, network in ((f"{url}/m", networks[1]), (f"{url}/m/1/", networks[0])):
        here = tiny_network(tiny(seed=5))
        assert "8 of 8 convolutions" in read_warm_start(location).apply(here)
        assert torch.equal(here.layers[0].conv.weight, network.layers[0].conv.weight)
