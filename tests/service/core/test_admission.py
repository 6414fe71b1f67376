"""How long a new request is expected to wait, and what a refused one is told."""

from __future__ import annotations

import numpy as np
import pytest

from service.core.admission import Admission, Throughput
from service.core.errors import OverloadedError
from service.core.job import Job
from service.core.limits import SchedulerLimits
from tests.service.fakes import make_model

MODEL = make_model()


def waiting(admission: Admission, rows: int) -> Job:
    job = Job(MODEL, np.array([0]), rows, 10, 0.0, 1.0, 1.0, lambda job: None)
    admission.add(job)
    return job


def test_throughput_forgets() -> None:
    throughput = Throughput()
    assert throughput.rows_per_second is None
    for _ in range(200):
        throughput.observe(10, 1.0, 0.0, backlog=False)
    for _ in range(100):
        throughput.observe(40, 1.0, 0.0, backlog=False)
    assert throughput.rows_per_second == pytest.approx(40, rel=0.02)


def test_with_a_backlog_the_time_between_batches_counts() -> None:
    throughput = Throughput()
    throughput.observe(10, 1.0, now=1.0, backlog=True)
    # The engine worked for one second of four: something else had the processor.
    throughput.observe(10, 1.0, now=5.0, backlog=True)
    assert throughput.rows_per_second == pytest.approx(20 / 5, rel=0.1)


def test_an_idle_engine_is_no_slow_engine() -> None:
    throughput = Throughput()
    for now in (1.0, 100.0, 200.0):
        throughput.observe(10, 1.0, now=now, backlog=False)
    assert throughput.rows_per_second == pytest.approx(10)


def test_a_slow_event_loop_shortens_the_time_that_a_request_has() -> None:
    admission = Admission(SchedulerLimits())
    admission.throughput.observe(100, 1.0, 0.0, backlog=False)
    waiting(admission, 100)
    admission.check(rows=1, size=1, remaining_s=3.0, fair_rows=100)
    for _ in range(100):
        admission.loop_lag.observe(0.5)
    with pytest.raises(OverloadedError):
        admission.check(rows=1, size=1, remaining_s=3.0, fair_rows=100)


def test_a_large_job_ahead_does_not_refuse_small_ones_that_will_share_batches_with_it() -> None:
    admission = Admission(SchedulerLimits())
    admission.throughput.observe(100, 1.0, 0.0, backlog=False)
    waiting(admission, 5000)  # fifty seconds
    admission.check(rows=10, size=1, remaining_s=10.0, fair_rows=100)
    with pytest.raises(OverloadedError):
        admission.check(rows=1000, size=1, remaining_s=10.0, fair_rows=100)


def test_a_refusal_does_not_look_at_thousands_of_small_jobs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admission = Admission(SchedulerLimits())
    admission.throughput.observe(100, 1.0, 0.0, backlog=False)
    large = waiting(admission, 300)
    for _ in range(2000):
        waiting(admission, 1)
    looked_at: list[Job] = []

    def watched(job: Job) -> int:
        looked_at.append(job)
        return job.rows

    monkeypatch.setattr(Job, "unanswered", property(watched))
    with pytest.raises(OverloadedError, match=r"in 21\.01 s"):  # 2000 rows, 100 of 300, and its own
        admission.check(rows=1, size=1, remaining_s=10.0, fair_rows=100)
    assert looked_at == [large]


@pytest.mark.parametrize(("waiting_rows", "seconds"), [(1, 1), (250, 3), (100_000, 60)])
def test_retry_after_is_bounded(waiting_rows: int, seconds: int) -> None:
    admission = Admission(SchedulerLimits(max_queue_rows=200_000))
    admission.throughput.observe(100, 1.0, 0.0, backlog=False)
    waiting(admission, waiting_rows)
    assert admission.retry_after_s() == seconds


def test_retry_after_without_a_measurement() -> None:
    admission = Admission(SchedulerLimits())
    waiting(admission, 1000)
    assert admission.retry_after_s() == 1


def test_everything_is_given_back() -> None:
    admission = Admission(SchedulerLimits())
    job = waiting(admission, 8)
    other = waiting(admission, 2)
    job.taken = 5
    admission.took(5)
    admission.answered(job, 3)
    assert (admission.rows, admission.unanswered, admission.bytes) == (5, 7, 20)
    admission.remove(job)
    admission.answered(job, 2)  # comes back after the job was over
    assert (admission.rows, admission.unanswered, admission.bytes) == (2, 2, 10)
    admission.remove(other)
    admission.remove(other)
    assert (admission.rows, admission.unanswered, admission.bytes, len(admission)) == (0, 0, 0, 0)
