"""Several processes train what one trains with the same batches, and end together."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.repository import Repository
from tests.training.conftest import PackMaker, tiny, tiny_images, tiny_network
from tests.training.process_threads import together
from training.decoding import ImageSet
from training.distributed import Processes, processes_of_run
from training.errors import DataError, ProcessLostError, RunInterruptedError, SettingsError
from training.interruption import StopRequest
from training.sources import MISSING
from training.state import StateFile
from training.trainer import Trainer

TOLERANCE = 1e-6
"""Of weights in float64: sums are in another order and losses are float32, nothing else differs."""
TOLERANCE_FLOAT32 = 5e-3
"""The same in float32, after few steps: batch norm of small batches amplifies rounding."""


_BUILDING = threading.Lock()
"""Random weights come from the generator that threads share."""


class NoSignals(StopRequest):
    """Threads may not set signal handlers."""

    def __enter__(self) -> NoSignals:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class Silent:
    """A progress display that acts at a step."""

    def __init__(self, at: int = -1, act: Any = None) -> None:
        self._at, self._act = at, act

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, done: int, total: int, note: str = "") -> None:
        if done == self._at:
            self._act()


def images() -> ImageSet:
    """With missing labels, more of them in one share of most batches than in another."""
    whole = tiny_images(28)
    labels = whole.labels.copy()
    labels[::3, 1] = MISSING
    labels[:9, 0] = MISSING
    return ImageSet(whole.pixels, labels)


def trainer(folder: Path, processes: Processes, **changes: Any) -> Trainer:
    settings = tiny(**changes)
    with _BUILDING:
        network = tiny_network(settings).double()
    return Trainer(
        network, settings, images(), StateFile(folder / str(processes.rank)),
        {"source": "tiny", "digest": "sha256:0"}, stop=NoSignals(), processes=processes,
    )  # fmt: skip


def weights(one: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in one.network.state_dict().items()}


def assert_close(
    one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = TOLERANCE
) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        whole = value.double()
        difference = (other[name].double() - whole).abs().max().item()
        assert difference <= tolerance * max(1.0, whole.abs().max().item()), (name, difference)


@pytest.mark.parametrize(
    ("count", "changes"),
    [
        (2, {"sampler": "covering", "tasks_per_step": 2, "momentum": 0.9}),
        (3, {"sampler": "all", "norm": "batch", "max_grad_norm": 0.5, "ema_decay": 0.9}),
        (2, {"flip": True, "shift": 2, "colour_jitter": 0.3, "compute": "masked"}),
        (2, {"scheme": "saliency", "shared_start": 0.5, "saliency_images": 12}),
    ],
)
def test_several_processes_train_what_one_trains(
    tmp_path: Path, count: int, changes: dict[str, Any]
) -> None:
    changes = {"routed_layers": "last:3", "lr": 0.02, **changes}
    alone = trainer(tmp_path / "alone", Processes(), **changes)
    alone.fit(Silent())

    def work(processes: Processes) -> Trainer:
        one = trainer(tmp_path / "several", processes, **changes)
        one.fit(Silent())
        return one

    several = together(count, work)
    for one in several:
        assert_close(weights(alone), weights(one))
        assert one.step == alone.step
    for other in several[1:]:
        for name, value in weights(several[0]).items():
            assert torch.equal(value, weights(other)[name]), name
        assert not other.state_file.exists()
    assert several[0].state_file.exists()


def test_a_stop_asked_of_one_ends_all_at_the_same_step_and_resumes(tmp_path: Path) -> None:
    whole = together(2, lambda p: _fitted(trainer(tmp_path / "whole", p)))
    steps: list[int] = []

    def interrupted(processes: Processes) -> None:
        one = trainer(tmp_path / "cut", processes)

        def act() -> None:
            one.stop.requested = processes.rank == 1

        with pytest.raises(RunInterruptedError, match="after step 4 of 6"):
            one.fit(Silent(4, act))
        steps.append(one.step)

    together(2, interrupted)
    assert steps == [4, 4]

    def resumed(processes: Processes) -> Trainer:
        one = trainer(tmp_path / "cut", processes)  # rank 1 has no state of its own
        one.resume()
        assert one.step == 4
        return _fitted(one)

    for one, other in zip(whole, together(2, resumed), strict=True):
        for name, value in weights(one).items():
            assert torch.equal(value, weights(other)[name]), name


def _fitted(one: Trainer) -> Trainer:
    one.fit(Silent())
    return one


def test_others_start_from_what_the_main_process_has(tmp_path: Path) -> None:
    def work(processes: Processes) -> Trainer:
        one = trainer(tmp_path, processes)
        if not processes.main:
            with torch.no_grad():
                one.network.get_parameter("layers.0.conv.weight").zero_()
                one.network.mean.zero_()
        return _fitted(one)

    main, other = together(2, work)
    assert torch.equal(
        main.network.get_parameter("layers.0.conv.weight"),
        other.network.get_parameter("layers.0.conv.weight"),
    )
    assert torch.equal(main.network.mean, other.network.mean)


def test_parts_cover_the_batch_once() -> None:
    def rows(processes: Processes) -> list[int]:
        return np.arange(11)[processes.part(11).rows].tolist()  # type: ignore[no-any-return]

    assert [row for part in together(4, rows) for row in part] == list(range(11))
    assert Processes().part(5).rows == slice(0, 5)


def test_a_batch_smaller_than_the_processes_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"2 images cannot be shared by 3 .*batch_size"):
        together(3, lambda processes: processes.part(2))


def test_loss_is_weighed_by_observed_labels() -> None:
    labels = np.array([[1, MISSING], [0, 1], [MISSING, MISSING], [1, MISSING]], dtype=np.int16)
    assert together(2, lambda p: p.weight(labels, p.part(4))) == [0.75, 0.25]
    nothing = np.full((4, 1), MISSING, dtype=np.int16)
    assert together(2, lambda p: p.weight(nothing, p.part(4))) == [0, 0]


def test_other_data_is_refused() -> None:
    def work(processes: Processes) -> None:
        processes.check_same({"seed": 1, "digest": f"sha256:{processes.rank}"})

    with pytest.raises(DataError, match=r"process 1 of 2 has another digest .*'sha256:1', not"):
        together(2, work)


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with processes_of_run("cpu") as processes:
        assert processes.count == 1
        assert processes.main


def test_the_others_lost_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is told of another that never comes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {
        "RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("training.distributed._PATIENCE", timedelta(seconds=1))
    with (
        pytest.raises(ProcessLostError, match=r"process 1 of 2 .* --resume"),
        processes_of_run("cpu"),
    ):
        pass


def torchrun(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", *arguments],
        capture_output=True, text=True, timeout=250, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


FLAGS = [
    "--arch", "vgg11_bn", "--width", "0.125", "--unit-multiple", "2", "--embedding", "4",
    "--image-size", "28", "--batch-size", "8", "--epochs", "1", "--lr", "0.01", "--flip",
    "--recalibration-batches", "2", "--routed-layers", "last:3", "--bootstrap-resamples", "0",
]  # fmt: skip


@pytest.mark.slow
def test_torchrun_publishes_what_one_process_publishes(
    make_pack: PackMaker, tmp_path: Path
) -> None:
    from training.cli import main

    def command(repository: str) -> list[str]:
        return [
            "train", "--data", f"pack:{make_pack()}", "--repository", str(tmp_path / repository),
            "--name", "m", "--cache-dir", str(tmp_path / "cache"), *FLAGS,
        ]  # fmt: skip

    assert main(command("one")) == 0
    ran = torchrun(["training", *command("two")])
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("published m version 1") == 1
    one, two = (
        Repository(tmp_path / name).read("m").network().state_dict() for name in ("one", "two")
    )
    assert_close(one, two, TOLERANCE_FLOAT32)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_others_with_a_clear_error(tmp_path: Path) -> None:
    ran = torchrun(["tests.training.dying_process"])
    assert ran.returncode != 0
    assert "process 0 of 2 lost the others" in ran.stdout + ran.stderr
