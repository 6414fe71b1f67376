"""Whatever happens in whatever order: no row is lost, none answered twice, no bound broken."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from torch import Tensor

from model.rows import RowBatch
from service.core.engine import Sleep
from service.core.errors import EngineDownError, OverloadedError, TooManyRowsError
from service.core.job import Job
from service.core.limits import SchedulerLimits
from service.core.priority import Priority
from tests.service.fakes import Bench, expected_logit, fake_forward, make_model

LIMITS = SchedulerLimits(max_batch_rows=6, max_queue_rows=60, max_request_share=0.4, ageing_s=1.0)
RAISES, RUNS_OUT_OF_MEMORY, ANSWERS_NAN = 250, 251, 252


class Traffic(RuleBasedStateMachine):
    """Requests, cancellations, time, faults and engine steps in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(LIMITS)
        self.models = [self.bench.model, make_model(clock=self.bench.clock, version=2)]
        for model in self.models:
            fake_forward(model).fault = self.fault
            fake_forward(model).seconds_per_row = 0.01
        self.values: dict[Job, list[int]] = {}
        self.admitted: list[tuple[Job, list[int]]] = []
        self.withdrawn: list[Job] = []
        self.rows: Counter[str] = Counter()

    def fault(self, batch: RowBatch, logits: Tensor) -> None:
        values = batch.images[:, 0, 0, 0]
        if (values == RAISES).any():
            raise ValueError("no such picture")
        if (values == RUNS_OUT_OF_MEMORY).any() and len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        logits[values[batch.image_index] == ANSWERS_NAN, 0] = torch.nan

    @rule(
        tasks=st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True),
        values=st.lists(
            st.integers(0, 240) | st.sampled_from([RAISES, RUNS_OUT_OF_MEMORY, ANSWERS_NAN]),
            min_size=1,
            max_size=4,
        ),
        timeout=st.sampled_from([0.05, 0.5, 5.0, 50.0]),
        model=st.integers(0, 1),
        decoded=st.booleans(),
        priority=st.sampled_from(Priority),
    )
    def ask(
        self,
        tasks: list[int],
        values: list[int],
        timeout: float,
        model: int,
        decoded: bool,
        priority: Priority,
    ) -> None:
        try:
            job = self.bench.admit(
                tasks, len(values), timeout, self.models[model], priority=priority
            )
        except OverloadedError:
            self.rows["shed"] += len(tasks) * len(values)
            return
        self.values[job] = values
        self.admitted.append((job, values))
        if decoded:
            self.decode()

    @precondition(lambda self: self.admitted)
    @rule()
    def decode(self) -> None:
        job, values = self.admitted.pop(0)
        self.bench.scheduler.submit(
            job, [np.full((28, 28, 3), value, np.uint8) for value in values]
        )

    @precondition(lambda self: self.values)
    @rule(which=st.integers(0, 100))
    def cancel(self, which: int) -> None:
        job = list(self.values)[which % len(self.values)]
        if self.bench.scheduler.withdraw(job, "cancelled"):
            self.withdrawn.append(job)

    @rule(seconds=st.sampled_from([0.001, 0.1, 1.0]))
    def wait(self, seconds: float) -> None:
        self.bench.clock.advance(seconds)

    @rule()
    def step(self) -> None:
        self.bench.step()

    @invariant()
    def bounds_hold(self) -> None:
        sizes = [size for model in self.models for size in fake_forward(model).sizes]
        assert all(size <= LIMITS.max_batch_rows for size in sizes)
        assert 0 <= self.bench.scheduler.queue_rows <= LIMITS.max_queue_rows
        assert len(self.bench.done) == len(set(self.bench.done))
        assert not set(self.bench.done) & set(self.withdrawn)

    def teardown(self) -> None:
        while self.admitted:
            self.decode()
        for _ in range(1000):
            if isinstance(self.bench.step(), Sleep):
                break
            self.bench.clock.advance(0.01)
        assert set(self.bench.done) | set(self.withdrawn) == set(self.values)
        assert self.bench.scheduler.queue_rows == 0
        assert self.bench.scheduler.queue_bytes == 0
        assert self.bench.scheduler.unanswered_requests == 0
        for job in self.bench.done:
            if job.failure is None:
                self.check_answers(job)
        self.check_books()

    def check_answers(self, job: Job) -> None:
        for row in range(job.rows):
            value = self.values[job][row // job.tasks_per_image]
            task = int(job.tasks[row % job.tasks_per_image])
            if value in (RAISES, ANSWERS_NAN):
                assert row in job.errors
            else:
                assert row not in job.errors
                assert job.logits[row, 0] == pytest.approx(expected_logit(value, task), abs=1e-4)

    def check_books(self) -> None:
        counted = sum(self.bench.telemetry.outcomes.values())
        assert counted == sum(job.rows for job in self.values) + self.rows["shed"]


Traffic.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestTraffic: Any = Traffic.TestCase


def test_a_request_that_can_never_fit_is_told_so() -> None:
    bench = Bench(SchedulerLimits(max_queue_rows=10))
    with pytest.raises(TooManyRowsError, match="max_queue_rows"):
        bench.admit(tasks=(0, 1), images=6)


def test_images_that_cannot_be_decoded_give_their_room_back() -> None:
    bench = Bench()
    job = bench.admit(tasks=(0, 1), images=3, encoded_bytes=500)
    bench.scheduler.submit(job, [np.zeros((28, 28, 3), np.uint8)])
    assert bench.scheduler.queue_rows == 2
    assert bench.scheduler.queue_bytes == 28 * 28 * 3
    nothing = bench.admit()
    bench.scheduler.submit(nothing, [])
    assert nothing.closed
    bench.run_all()
    assert bench.done == [job]


def test_the_oldest_age_is_that_of_the_longest_waiting_job() -> None:
    bench = Bench()
    assert bench.scheduler.oldest_age() == 0.0
    bench.ask()
    bench.clock.advance(3.0)
    bench.ask(timeout=0.1)
    assert bench.scheduler.oldest_age() == pytest.approx(3.0)


def test_a_call_runs_between_batches_and_its_fault_is_its_callers() -> None:
    bench = Bench()
    bench.ask()
    good, bad = bench.scheduler.call(lambda: 7), bench.scheduler.call(lambda: 1 / 0)
    bench.run_all()  # a call is no batch: it ends the loop of steps
    bench.run_all()
    assert good.result(0) == 7
    with pytest.raises(ZeroDivisionError):
        bad.result(0)
    bench.run_all()
    assert len(bench.done) == 1


def test_calls_fail_with_the_engine() -> None:
    bench = Bench()
    waiting = bench.scheduler.call(lambda: 7)
    bench.scheduler.engine_lost("gone")
    with pytest.raises(EngineDownError, match="gone"):
        waiting.result(0)
    with pytest.raises(EngineDownError):
        bench.scheduler.call(lambda: 7).result(0)


def test_batches_teach_the_cost_model() -> None:
    bench = Bench()
    bench.forward.seconds_per_batch, bench.forward.seconds_per_row = 0.05, 0.01
    for count in (1, 5, 20, 2, 10, 30):
        bench.ask(values=range(count))
        bench.run_all()
    fixed, per_row = bench.scheduler.costs(bench.model)["fake"]
    assert fixed == pytest.approx(0.05, rel=0.01)
    assert per_row == pytest.approx(0.01, rel=0.01)
    assert bench.scheduler.rows_per_second == pytest.approx(68 / (6 * 0.05 + 0.68), rel=0.1)


def test_a_batch_report_says_what_was_run() -> None:
    bench = Bench()
    bench.forward.seconds_per_batch = 0.5
    bench.ask(tasks=(0, 1), values=(1, 2))
    bench.ask(tasks=(1, 2), values=(3,))
    bench.run_all()
    [report] = bench.telemetry.batches
    assert (report.rows, report.tasks, report.images) == (6, 3, 3)
    assert (report.plan, report.release) == ("fake", "idle")
    assert report.forward_seconds == pytest.approx(0.5)
