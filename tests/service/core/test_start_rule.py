"""Details of starting that the scheduler's rules 13 to 16 do not name."""

from __future__ import annotations

import pytest

from service.core.engine import Run, Sleep
from service.core.limits import SchedulerLimits
from service.core.start_rule import StartRule
from service.core.telemetry import BatchReport
from tests.service.core.test_rules import stream
from tests.service.fakes import Bench, make_model

MODEL = make_model()


def report(rows: int, seconds: float) -> BatchReport:
    return BatchReport(MODEL, "fake", "idle", rows, tasks=1, images=1, seconds=seconds)


def test_a_request_is_held_for_a_time_of_its_own_after_another_was_cancelled() -> None:
    bench = Bench(SchedulerLimits(max_batch_delay_s=0.002))
    bench.teach(fixed=0.02, per_row=0.0001)
    stream(bench, gap=0.0002)
    gone = bench.ask()
    assert isinstance(bench.step(), Sleep)
    bench.scheduler.withdraw(gone, "cancelled")
    assert isinstance(bench.step(), Sleep)
    bench.clock.advance(0.003)
    for _ in range(30):  # requests come often again
        bench.clock.advance(0.0002)
        bench.scheduler.withdraw(bench.ask(), "cancelled")
    bench.ask()
    assert isinstance(bench.step(), Sleep)
    bench.clock.advance(0.002)
    run = bench.step()
    assert isinstance(run, Run)
    assert run.release == "delay"


def test_without_a_delay_setting_nothing_is_held_back() -> None:
    bench = Bench(SchedulerLimits(max_batch_delay_s=0.0))
    bench.teach(fixed=0.02, per_row=0.0001)
    stream(bench, gap=0.0002)
    bench.ask()
    assert isinstance(bench.step(), Run)


def test_batches_with_faults_teach_nothing() -> None:
    rule = StartRule(SchedulerLimits(max_batch_duration_s=1.0))
    for rows in (100, 200, 300, 400):
        rule.ran(report(rows, rows * 0.01))
    assert rule.batch_rows(MODEL, memory_rows=1000) == pytest.approx(100, abs=1)
    slow = report(300, 90.0)
    slow.failures["oom"] += 1
    rule.ran(slow)
    fixed, per_row = rule.costs(MODEL)["fake"]
    assert fixed == pytest.approx(0.0, abs=1e-9)
    assert per_row == pytest.approx(0.01)


def test_memory_bounds_a_batch_before_anything_is_known_and_afterwards() -> None:
    rule = StartRule(SchedulerLimits())
    assert rule.batch_rows(MODEL, memory_rows=77) == 77
    for rows in (1, 2, 4, 8):
        rule.ran(report(rows, rows * 1.0))
    assert rule.batch_rows(MODEL, memory_rows=77) == 32
    assert rule.batch_rows(MODEL, memory_rows=5) == 5
