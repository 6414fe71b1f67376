"""The loop: learns, repeats itself, resumes bit for bit, stops when asked, refuses nonsense."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from torch import Tensor

from model.task_network import TaskNetwork
from tests.training.conftest import tiny, tiny_images, tiny_network
from training.curves import Curves
from training.errors import DivergedError, RunInterruptedError
from training.losses import masked_loss
from training.optimisation import clip_gradients, set_learning_rate
from training.state import StateFile
from training.trainer import Trainer

DATA = {"source": "tiny", "digest": "sha256:0"}


class Quiet:
    """A progress display that only counts, and may act at a step."""

    def __init__(self, at: int | None = None, act: Any = None) -> None:
        self.updates: list[tuple[int, int, str]] = []
        self._at, self._act = at, act

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, done: int, total: int, note: str = "") -> None:
        self.updates.append((done, total, note))
        if done == self._at:
            self._act()


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def trainer(folder: Path, **changes: Any) -> Trainer:
    settings = tiny(**changes)
    return Trainer(tiny_network(settings), settings, tiny_images(), StateFile(folder), DATA)


def weights(one: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in one.network.state_dict().items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_it_learns(tmp_path: Path) -> None:
    one = trainer(tmp_path, epochs=8, sampler="all", momentum=0.9, routed_layers="last:3")
    images = torch.from_numpy(one.images.pixels)
    labels = torch.from_numpy(one.images.labels.astype("int64"))
    with torch.no_grad():
        before = masked_loss(one.network.train().forward_tasks(images, range(3)), labels).item()
    one.fit(Quiet())
    with torch.no_grad():
        after = masked_loss(one.network.train().forward_tasks(images, range(3)), labels).item()
    assert after < 0.6 * before


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_row_of_a_modulation_learns(tmp_path: Path, precision: str) -> None:
    changes = {"modulation": "scale_shift", "routed_layers": "last:2", "keep": 1.0}
    one = trainer(tmp_path, sampler="all", precision=precision, **changes)
    one.fit(Quiet())
    tables = {name: value for name, value in weights(one).items() if "modulation" in name}
    assert len(tables) == 4
    for name, table in tables.items():
        assert (table != float(name.endswith("scale"))).any(dim=1).all(), name


@pytest.mark.parametrize("sampler", ["paper", "covering", "all"])
def test_a_seed_gives_the_same_run_twice(tmp_path: Path, sampler: str) -> None:
    runs = [trainer(tmp_path / str(index), sampler=sampler, flip=True) for index in range(2)]
    for run in runs:
        run.fit(Quiet())
    assert_same(weights(runs[0]), weights(runs[1]))


def test_another_seed_gives_another_run(tmp_path: Path) -> None:
    runs = [trainer(tmp_path / str(seed), seed=seed, route_seed=0) for seed in (0, 1)]
    for run in runs:
        run.fit(Quiet())
    assert not torch.equal(
        runs[0].network.get_parameter("layers.0.conv.weight"),
        runs[1].network.get_parameter("layers.0.conv.weight"),
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": "paper", "schedule": "cosine"},
        {"sampler": "covering", "tasks_per_step": 2, "flip": True, "momentum": 0.9},
        {"sampler": "all", "norm": "batch", "nesterov": True, "weight_decay": 0.01},
        {"optimiser": "adamw", "lr": 0.001, "weight_decay": 0.01, "max_grad_norm": 0.5},
        {"ema_decay": 0.9, "positive_weight_limit": 3, "focal_gamma": 1, "label_smoothing": 0.1},
        {"label_balance": True, "shift": 2, "colour_jitter": 0.2, "flip": True},
        {"precision": "bfloat16", "sampler": "covering", "tasks_per_step": 2},
        {"modulation": "scale_shift", "keep": 0.25, "keep_schedule": "falling", "momentum": 0.9},
    ],
)
def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    whole = trainer(tmp_path / "whole", **changes)
    whole.fit(Quiet())

    first = trainer(tmp_path / "cut", **changes)
    with pytest.raises(RunInterruptedError, match=r"interrupted after step 4 of 6; .*--resume"):
        first.fit(Quiet(at=4, act=interrupt))
    second = trainer(tmp_path / "cut", **changes)
    second.resume()
    assert second.step == 4
    display = Quiet()
    second.fit(display)

    assert [done for done, _, _ in display.updates] == [5, 6]
    assert_same(weights(whole), weights(second))
    if whole.averaged is not None:
        assert second.averaged is not None
        assert_same(whole.averaged.state_dict(), second.averaged.state_dict())


def test_killed_between_saves_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    """Kill -9: nothing runs any more, only the last state saved on the way is left."""
    whole = trainer(tmp_path / "whole")
    whole.fit(Quiet())

    def kill() -> None:
        raise SystemExit

    killed = trainer(tmp_path / "cut", checkpoint_interval_s=1e-9)
    with pytest.raises(SystemExit):
        killed.fit(Quiet(at=5, act=kill))
    resumed = trainer(tmp_path / "cut", checkpoint_interval_s=1e-9)
    resumed.resume()
    assert resumed.step == 4
    resumed.fit(Quiet())
    assert_same(weights(whole), weights(resumed))


def test_the_finished_run_is_saved_too(tmp_path: Path) -> None:
    one = trainer(tmp_path)
    one.fit(Quiet())
    again = trainer(tmp_path)
    again.resume()
    display = Quiet()
    again.fit(display)
    assert display.updates == []
    assert_same(weights(one), weights(again))


def test_progress_has_steps_loss_and_rate(tmp_path: Path) -> None:
    display = Quiet()
    trainer(tmp_path).fit(display)
    assert [done for done, _, _ in display.updates] == [1, 2, 3, 4, 5, 6]
    assert {total for _, total, _ in display.updates} == {6}
    assert re.fullmatch(r"loss \d\.\d{4}, \d+ images/s", display.updates[-1][2])


def test_signals_work_as_before_once_training_is_over(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    trainer(tmp_path).fit(Quiet())
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


class SlowCurves(Curves):
    """An hour for every step."""

    def __init__(self, now: list[float]) -> None:
        self._now = now

    def step(self, step: int, loss: float, learning_rate: float, images_per_s: float) -> None:
        self._now[0] += 3600.0

    def epoch(self, network: TaskNetwork, step: int) -> None:
        return None


def test_looking_at_curves_is_no_time_of_training(tmp_path: Path) -> None:
    now = [0.0]
    one = trainer(tmp_path, time_limit_s=30)
    one.clock, one.curves = lambda: now[0], SlowCurves(now)
    one.fit(Quiet())
    assert (one.step, one.elapsed_s) == (6, 0.0)


def test_a_time_limit_ends_the_run_with_the_schedule_run_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []

    def recorded(optimiser: torch.optim.Optimizer, rate: float) -> None:
        rates.append(rate)
        set_learning_rate(optimiser, rate)

    monkeypatch.setattr("training.trainer.set_learning_rate", recorded)
    one = trainer(tmp_path, epochs=40, time_limit_s=30, schedule="cosine", lr=0.05)
    ticks: Iterator[int] = iter(range(10_000))
    one.clock = lambda: float(next(ticks))  # every step takes a second
    one.fit(Quiet())
    assert 25 <= one.step <= 30
    assert rates[0] == pytest.approx(0.05)
    assert rates[-1] < 0.001


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    one = trainer(tmp_path)
    with torch.no_grad():
        one.network.get_parameter("layers.0.conv.weight").fill_(float("nan"))
    with pytest.raises(DivergedError, match=r"the loss is nan at step 0 \(loss nan; tasks "):
        one.fit(Quiet())
    assert not one.state_file.exists()


def test_divergence_leaves_the_last_good_state_and_untouched_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trainer(tmp_path, checkpoint_interval_s=1e-9)

    def spoilt(optimiser: torch.optim.Optimizer, max_norm: float) -> Tensor:
        norm = clip_gradients(optimiser, max_norm)
        return norm * torch.inf if one.step == 3 else norm

    monkeypatch.setattr("training.trainer.clip_gradients", spoilt)
    with pytest.raises(DivergedError, match="the gradient norm is inf at step 3"):
        one.fit(Quiet())
    assert one.state_file.peek().step == 3
    for name, parameter in one.network.named_parameters():
        assert parameter.isfinite().all(), name


def test_the_state_holds_no_pickle(tmp_path: Path) -> None:
    one = trainer(tmp_path, momentum=0.9)
    one.fit(Quiet())
    with safetensors.safe_open(one.state_file.path, framework="pt") as file:
        names = set(file.keys())
    assert {f"network/{name}" for name in one.network.state_dict()} <= names
    assert any(name.startswith("optimiser/") for name in names)
