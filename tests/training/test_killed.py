"""A training process killed by the system, which nothing can catch."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from model.repository import Repository
from tests.training.conftest import TINY, PackMaker
from training.run import STATE_FOLDER
from training.state import StateFile

FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
FLAGS += ["--config=evidence", "--precision=float32", "--threads=1", "--bootstrap-resamples=0"]
KILLED_AT = 60
"""Of 180 steps."""


def command(source: str, repository: Path, *more: str) -> list[str]:
    place = [f"--data={source}", f"--repository={repository}", "--name=m"]
    return [
        sys.executable, "-m", "training", "train", *place, *FLAGS, "--epochs=60",
        "--checkpoint-interval-s=0.01", *more,
    ]  # fmt: skip


@pytest.mark.slow
def test_kill_9_and_resume_publishes_what_an_undisturbed_run_does(
    make_pack: PackMaker, tmp_path: Path
) -> None:
    source, killed, whole = f"pack:{make_pack()}", tmp_path / "killed", tmp_path / "whole"
    state = StateFile(killed / "m" / STATE_FOLDER)
    process = subprocess.Popen(command(source, killed), stderr=subprocess.DEVNULL)
    while not (state.exists() and state.peek().step >= KILLED_AT):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert Repository(killed).versions("m") == []

    subprocess.run(command(source, killed, "--resume"), check=True, capture_output=True)
    subprocess.run(command(source, whole), check=True, capture_output=True)
    weights = [Repository(root).path("m", 1) / "model.safetensors" for root in (killed, whole)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
