"""Epochs that fill a time budget."""

from __future__ import annotations

import itertools
import time

import pytest

from model.tasks import TaskSet
from tests.training.conftest import TASKS, tiny
from tests.training.towers import STITCHED
from training.compare.rate import _kinds, budget_clock, planned_epochs

IMAGES = 80  # ten steps an epoch


def ticking(seconds: float) -> itertools.count[float]:
    return itertools.count(0.0, seconds)


@pytest.mark.parametrize("changes", [{}, {"scheme": "saliency", "sampler": "covering"}])
def test_about_twice_the_steps_that_fit_are_planned(changes: dict[str, str]) -> None:
    clock = ticking(0.5)
    settings = tiny(time_limit_s=30, **changes)
    epochs = planned_epochs(settings, TaskSet(TASKS), IMAGES, clock=lambda: next(clock))
    # 0.02 * 30 s are measured: the clock is read at the start, after each of two steps of 0.5 s
    # and once more at the end, so a step seems to take 0.5 s or a little more.
    steps = epochs * 10
    assert 2 * 30 / 0.75 <= steps <= 2 * 30 / 0.25


def test_every_budget_has_a_step() -> None:
    clock = ticking(1000.0)
    settings = tiny(time_limit_s=1)
    epochs = planned_epochs(settings, TaskSet(TASKS), IMAGES, clock=lambda: next(clock))
    assert epochs == pytest.approx(0.1)


def test_measuring_is_short_where_steps_are_quick() -> None:
    reads = 0

    def clock() -> float:
        nonlocal reads
        reads += 1
        return reads * 1e-6

    planned_epochs(tiny(time_limit_s=1000), TaskSet(TASKS), IMAGES, clock=clock)
    assert reads <= 25


def test_layers_with_a_keep_each_can_start_without_routes() -> None:
    settings = tiny(time_limit_s=1, scheme="saliency", routed_layers="last:2", keep=[0.5, 0.25])
    assert planned_epochs(settings, TaskSet(TASKS), IMAGES, time.process_time) > 0


def test_waiting_costs_no_budget_where_the_processor_does_the_work() -> None:
    assert budget_clock("cpu") is time.process_time
    assert budget_clock("cuda:1") is time.monotonic


def test_towers_are_measured_alone_and_stitched() -> None:
    settings = tiny(**STITCHED, time_limit_s=1)
    assert [kind.family for kind in _kinds(settings)] == ["cross_stitch", "single_task"]
    assert planned_epochs(settings, TaskSet(TASKS), IMAGES, time.process_time) > 0
