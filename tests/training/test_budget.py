"""Time limits: a run that fits is untouched; one that does not ends earlier, with its time used."""

from __future__ import annotations

import pytest

from training.budget import Budget


def run(planned: int, limit_s: float, seconds_per_step: float, warm_up_s: float = 0.0) -> int:
    """Steps done by a run of steady speed after a slow first step."""
    budget, step, elapsed = Budget(planned, limit_s), 0, 0.0
    while step < budget.fit(step, elapsed):
        step += 1
        elapsed += seconds_per_step + (warm_up_s if step == 1 else 0)
    return step


def test_no_limit() -> None:
    assert run(1000, 0, 60) == 1000


def test_a_run_that_fits_keeps_its_steps() -> None:
    assert run(1000, 110, 0.1) == 1000


def test_a_slow_first_step_does_not_shorten_it() -> None:
    assert run(1000, 110, 0.1, warm_up_s=3) == 1000


def test_a_run_that_does_not_fit_uses_the_time_it_has() -> None:
    steps = run(1000, 60, 0.1)
    assert 560 <= steps <= 600


def test_the_limit_holds_when_the_machine_slows_down() -> None:
    budget, step, elapsed = Budget(1000, 100), 0, 0.0
    while step < budget.fit(step, elapsed):
        step += 1
        elapsed += 0.05 if step < 300 else 0.5
    assert elapsed == pytest.approx(100, abs=5)


def test_very_slow_steps_end_after_the_limit() -> None:
    assert run(10, 1, 100) == 1


def test_time_that_a_slow_stretch_seemed_to_cost_is_used_when_it_is_over() -> None:
    budget, step, elapsed = Budget(2000, 100), 0, 0.0
    while step < budget.fit(step, elapsed):
        step += 1
        elapsed += 0.2 if 50 < step < 150 else 0.1
    assert elapsed == pytest.approx(97, abs=1)
