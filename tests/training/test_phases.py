"""Phases: how steps, time and learning rates are divided, and which stage a step belongs to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.training.conftest import tiny
from training.optimisation import learning_rate
from training.phases import Phases

IMAGES, TASKS = 80, 3  # ten steps an epoch


def phases(**changes: Any) -> Phases:
    given = {"scheme": "saliency", "epochs": 4, "shared_start": 0.5, "sampler": "covering"}
    return Phases(tiny(**(given | changes)), IMAGES, TASKS)


def walk(one: Phases, step_s: float = 1.0) -> list[tuple[int, float]]:
    """Stage and learning rate of every step, each taking ``step_s``."""
    steps: list[tuple[int, float]] = []
    while one.go_on(len(steps), len(steps) * step_s):
        step = len(steps)
        one.stage = one.stage_of(step)
        steps.append((one.stage, one.learning_rate(step)))
    return steps


def test_drawn_routes_make_one_phase_as_the_settings_say() -> None:
    one = phases(scheme="independent", schedule="cosine", compute="masked")
    settings = tiny(schedule="cosine")
    assert walk(one) == [(0, learning_rate(settings, step / 40)) for step in range(40)]
    assert one.last_stage == 0
    assert one.current.compute == "masked"


def test_a_shared_start_trains_every_task_then_the_settings_own_sampler() -> None:
    one = phases(compute="masked")
    seen = []
    for step in (0, 19, 20):
        assert one.go_on(step, 0.0)
        seen.append((len(one.current.sampler.batch(step).tasks), one.current.compute))
    assert seen == [(3, "cut"), (3, "cut"), (1, "masked")]
    assert not one.go_on(40, 0.0)
    assert one.total_steps == 40


@pytest.mark.parametrize(
    ("share", "start"), [(0.5, 20), (0.25, 10), (0.01, 1), (0.99, 39), (0.26, 11)]
)
def test_both_phases_have_steps(share: float, start: int) -> None:
    stages = [stage for stage, _ in walk(phases(shared_start=share))]
    assert stages == [0] * start + [1] * (40 - start)


def test_even_a_single_step_is_followed_by_a_routed_one() -> None:
    assert [stage for stage, _ in walk(phases(epochs=0.05))] == [0, 1]


def test_no_shared_start_chooses_routes_at_once() -> None:
    assert [stage for stage, _ in walk(phases(shared_start=0, init_from="x"))] == [1] * 40


def test_stages_are_spread_over_the_first_half_of_the_routed_steps() -> None:
    stages = [stage for stage, _ in walk(phases(keep_stages=3))]
    assert stages == [0] * 20 + [1] * 5 + [2] * 5 + [3] * 10


def test_each_phase_runs_its_learning_rate_down() -> None:
    rates = [rate for _, rate in walk(phases(schedule="cosine", lr=0.2, routed_lr_factor=0.5))]
    assert rates[0] == pytest.approx(0.2)
    assert rates[20] == pytest.approx(0.1)
    assert rates[19] < 0.01
    assert rates[39] < 0.005
    assert rates[:20] == pytest.approx([2 * rate for rate in rates[20:]])


def test_each_phase_keeps_its_share_of_the_time_limit() -> None:
    one = phases(epochs=40, time_limit_s=100, schedule="cosine", shared_start=0.6)
    steps = walk(one)
    assert 55 <= [stage for stage, _ in steps].count(0) <= 60
    assert 95 <= len(steps) <= 100
    assert one.total_steps == len(steps)
    assert steps[-1][1] < 0.05 * 0.1 * 0.05


def test_time_that_the_start_leaves_is_the_routed_phases() -> None:
    """Twenty steps of 1 s take less than half of 60 s; those left would take 80 s."""
    one = phases(time_limit_s=60)
    stages: list[int] = []
    elapsed = 0.0
    while one.go_on(len(stages), elapsed):
        stages.append(one.stage_of(len(stages)))
        elapsed += 4.0 if stages[-1] else 1.0
    assert stages.count(0) == 20
    assert 8 <= stages.count(1) <= 10


def test_a_start_that_used_up_all_time_still_gives_one_routed_step() -> None:
    one = phases(time_limit_s=10)
    assert one.go_on(0, 0.0)
    assert one.go_on(1, 11.0)
    assert one.stage_of(1) == 1
    assert not one.go_on(2, 12.0)


@pytest.mark.parametrize("at", [0, 7, 20, 23, 31, 40])
def test_a_restored_schedule_goes_on_the_same(at: int) -> None:
    whole = walk(phases(keep_stages=3, schedule="one_cycle"))
    first = phases(keep_stages=3, schedule="one_cycle")
    for step in range(at):
        assert first.go_on(step, 0.0)
        first.stage = first.stage_of(step)
    second = phases(keep_stages=3, schedule="one_cycle")
    second.restore(json.loads(json.dumps(first.state())))
    assert second.stage == first.stage
    found = []
    for step in range(at, 41):
        if not second.go_on(step, 0.0):
            break
        found.append((second.stage_of(step), second.learning_rate(step)))
    assert found == whole[at:]


def test_a_run_shortened_before_stays_so_and_a_new_limit_counts() -> None:
    first = phases(epochs=40, time_limit_s=100)
    steps = len(walk(first))
    second = phases(epochs=40)
    second.restore(first.state())
    assert second.total_steps == steps
    third = phases(epochs=40, time_limit_s=30)
    third.restore({"steps": [200, 200], "phase": 1, "start_step": 20, "start_s": 20.0, "stage": 1})
    assert third.go_on(20, 20.0)
    assert not third.go_on(30, 30.0)


def test_a_state_from_before_there_were_phases_is_of_the_first() -> None:
    one = phases(scheme="independent")
    one.restore({"steps": [25]})
    assert one.total_steps == 25
    assert one.stage == 0


def test_one_schedule_may_span_both_phases() -> None:
    one = {"schedule": "one_cycle", "lr": 0.2, "shared_start": 0.75, "routed_lr_factor": 0}
    rates = [rate for _, rate in walk(phases(**one))]
    settings = tiny(schedule="one_cycle", lr=0.2)
    assert rates == pytest.approx([learning_rate(settings, step / 40) for step in range(40)])
    # Also where a time limit shortens both: 20 s of which the start has 15.
    short = [rate for _, rate in walk(phases(**one, time_limit_s=20))]
    assert len(short) < 21
    assert short[-1] < 0.02 * max(short)


def test_weights_from_elsewhere_have_the_whole_schedule() -> None:
    rates = [rate for _, rate in walk(phases(shared_start=0, init_from="x", routed_lr_factor=0))]
    assert rates == [rate for _, rate in walk(phases(scheme="independent"))]
