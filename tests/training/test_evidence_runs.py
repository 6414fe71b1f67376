"""Runs that choose their routes: killed at any moment they end the same, and what they publish
serves as it was trained."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from model.repository import Repository
from tests.training.conftest import PackMaker, tiny
from tests.training.test_trainer import Quiet, assert_same, interrupt, trainer, weights
from training.decoding import Decoder
from training.errors import RunInterruptedError
from training.pixel_cache import PixelCache
from training.run import TrainRequest, train
from training.trainer import Trainer

# Six steps, three of them routed, in two stages, each with one batch of saliency and two of
# statistics.
EVIDENCE = {
    "scheme": "saliency",
    "routed_layers": "last:2",
    "keep": 0.25,
    "norm": "batch_per_task",
    "sampler": "covering",
    "tasks_per_step": 2,
    "shared_start": 0.5,
    "saliency_images": 8,
    "keep_stages": 2,
    "momentum": 0.9,
    "schedule": "cosine",
    "flip": True,
}
UPDATES = 6 + 2 * (1 + 2)
"""Of the progress display: every step, and every batch of both stages."""


class Counting(Quiet):
    """Acts at an update, not at a step."""

    def update(self, done: int, total: int, note: str = "") -> None:
        super().update(done, total, note)
        if len(self.updates) == self._update:
            self._do()

    def __init__(self, update: int, do: Any) -> None:
        super().__init__()
        self._update, self._do = update, do


def kill() -> None:
    raise SystemExit


def evidence_trainer(folder: Path, **changes: Any) -> Trainer:
    return trainer(folder, **(EVIDENCE | changes))


def masks(one: Trainer) -> list[Tensor]:
    return [mask for mask in one.network.routes if mask is not None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """The run that nothing disturbed."""
    one = evidence_trainer(tmp_path_factory.mktemp("whole"))
    one.fit(Quiet())
    return one


def test_a_run_ends_with_routes_of_the_size_asked_for(whole: Trainer) -> None:
    assert [mask.sum(dim=1).tolist() for mask in masks(whole)] == [[16, 16, 16]] * 2
    assert whole.network.config.routing == whole.settings.routing()
    assert whole.step == 6


def test_every_step_and_every_batch_of_a_stage_is_seen(tmp_path: Path) -> None:
    display = Quiet()
    evidence_trainer(tmp_path).fit(display)
    stage = [
        "choosing routes: 8 of 8",
        "batch-norm statistics: 1 of 2",
        "batch-norm statistics: 2 of 2",
    ]
    notes = [note for _, _, note in display.updates]
    assert len(notes) == UPDATES
    assert notes[3:6] == stage
    assert [note for note in notes if "loss" not in note] == stage * 2


@pytest.mark.parametrize(
    ("update", "interval_s"),
    [*((update, 1e-9) for update in range(3, UPDATES + 1)), (5, 1e9), (8, 1e9), (9, 1e9)],
)
def test_killed_anywhere_and_resumed_equals_undisturbed_bit_for_bit(
    tmp_path: Path, whole: Trainer, update: int, interval_s: float
) -> None:
    first = evidence_trainer(tmp_path, checkpoint_interval_s=interval_s)
    with pytest.raises(SystemExit):
        first.fit(Counting(update, kill))
    second = evidence_trainer(tmp_path, checkpoint_interval_s=interval_s)
    second.resume()
    second.fit(Quiet())
    assert_same(weights(whole), weights(second))
    assert second.network.config == whole.network.config


@pytest.mark.parametrize("update", [3, 4, 6, 9, 12])
def test_stopped_anywhere_it_says_so_and_goes_on(
    tmp_path: Path, whole: Trainer, update: int
) -> None:
    first = evidence_trainer(tmp_path)
    with pytest.raises(RunInterruptedError, match=r"interrupted after step \d of 6; .*--resume"):
        first.fit(Counting(update, interrupt))
    second = evidence_trainer(tmp_path)
    second.resume()
    second.fit(Quiet())
    assert_same(weights(whole), weights(second))


@pytest.mark.parametrize(
    "changes",
    [
        {"optimiser": "adamw", "nesterov": False, "ema_decay": 0.9},
        {"target_cost": 0.2, "routed_layers": "last:4", "group_layers": 1},
        {"norm": "batch", "compute": "masked", "schedule": "one_cycle"},
        {"shared_start": 0, "init_from": "elsewhere"},
        {"modulation": "scale_shift", "optimiser": "adamw", "nesterov": False, "ema_decay": 0.9},
    ],
)
@pytest.mark.parametrize("update", [2, 5, 8])
def test_so_with_other_settings(tmp_path: Path, changes: dict[str, Any], update: int) -> None:
    whole = evidence_trainer(tmp_path / "whole", **changes)
    whole.fit(Quiet())
    first = evidence_trainer(tmp_path / "cut", **changes)
    with pytest.raises((SystemExit, RunInterruptedError)):
        first.fit(Counting(update, interrupt))
    second = evidence_trainer(tmp_path / "cut", **changes)
    second.resume()
    second.fit(Quiet())
    assert_same(weights(whole), weights(second))
    assert second.network.config == whole.network.config
    if whole.averaged is not None and second.averaged is not None:
        assert_same(whole.averaged.state_dict(), second.averaged.state_dict())


def test_a_time_limit_ends_within_it_with_the_routes_promised(tmp_path: Path) -> None:
    """Every step takes a second, and so does each stage."""
    one = evidence_trainer(tmp_path, epochs=40, time_limit_s=30, keep_stages=3)
    ticks = iter(range(10_000))
    one.clock = lambda: float(next(ticks))
    one.fit(Quiet())
    assert 20 <= one.step <= 30
    assert one.elapsed_s <= 32
    assert [mask.sum(dim=1).tolist() for mask in masks(one)] == [[16, 16, 16]] * 2
    assert one.phases.stage == 3


def test_a_time_limit_used_up_by_the_start_still_gives_the_routes(tmp_path: Path) -> None:
    one = evidence_trainer(tmp_path, epochs=40, time_limit_s=5)
    ticks = iter(range(0, 1_000_000, 100))
    one.clock = lambda: float(next(ticks))
    one.fit(Quiet())
    assert one.step == 2
    assert [mask.sum(dim=1).tolist() for mask in masks(one)] == [[16, 16, 16]] * 2


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9}, {"target_cost": 0.2}])
def test_what_is_published_serves_as_it_was_trained(
    make_pack: PackMaker, tmp_path: Path, changes: dict[str, Any]
) -> None:
    settings = tiny(**(EVIDENCE | changes))
    request = TrainRequest(
        f"pack:{make_pack()}", tmp_path / "models", "m", settings,
        decoder=Decoder(PixelCache(tmp_path / "cache")),
    )  # fmt: skip
    train(request, Console(file=io.StringIO()))
    bundle = Repository(tmp_path / "models").read("m")
    network = bundle.network()
    assert bundle.config.routing.scheme == "saliency"
    keeps = bundle.config.routing.keep_per_layer(2)
    routes = [mask for mask in network.routes if mask is not None]
    for keep, mask in zip(keeps, routes, strict=True):
        assert mask.sum(dim=1).tolist() == [keep * mask.shape[1]] * 3
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 28, 28, 3), dtype=torch.uint8, generator=generator)
    with torch.inference_mode():
        for task, subnet in enumerate(network.forward_tasks(images, range(3))):
            torch.testing.assert_close(subnet, network(images, task), rtol=1e-5, atol=1e-5)
