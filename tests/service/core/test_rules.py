"""One test for each numbered rule of service.core.scheduler, in the same order and words."""

from __future__ import annotations

import asyncio
import re
import threading
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.forward import Computing, nobody_waits
from model.rows import RowBatch
from service.core import scheduler as rules
from service.core.batch_runner import BatchRunner, EngineBrokenError
from service.core.clock import SystemClock
from service.core.engine import Engine, Run, Sleep, Stop
from service.core.errors import (
    DeadlineError,
    DrainingError,
    EngineDownError,
    ForwardError,
    NonFiniteError,
    OverloadedError,
    RowMemoryError,
)
from service.core.heartbeat import Heartbeat
from service.core.job import Job, count_rows
from service.core.limits import SchedulerLimits
from service.core.priority import Priority
from service.core.scheduler import Scheduler
from service.core.watchdog import Watchdog
from tests.service.fakes import (
    Bench,
    FakeClock,
    FakeForward,
    RecordingTelemetry,
    expected_logit,
    fake_forward,
    image,
    make_model,
    run_here,
)


def jobs_of(run: object) -> list[Job]:
    assert isinstance(run, Run)
    return [part.job for part in run.slices]


class ThreadedEngine:
    """A scheduler with a real engine thread, its results posted to a real event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.clock = SystemClock()
        self.scheduler = Scheduler(
            SchedulerLimits(), self.clock, RecordingTelemetry(), loop.call_soon_threadsafe
        )
        heartbeat = Heartbeat(self.clock)
        runner = BatchRunner(self.clock, self.scheduler.row_limit, heartbeat)
        self.engine = Engine(self.scheduler, runner, heartbeat)
        self.model = make_model()
        self.forward = fake_forward(self.model)

    async def ask(self, value: int = 100) -> Job:
        done: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
        deadline = self.clock.now() + 30
        job = self.scheduler.admit(
            self.model, np.array([0, 1]), 1, 0, deadline, lambda job: done.set_result(job)
        )
        self.scheduler.submit(job, [image(value)])
        async with asyncio.timeout(20):
            return await done

    def stop(self) -> None:
        self.scheduler.close()
        assert self.engine.join(10)


def test_the_rules_are_numbered_as_they_are_read_and_each_has_a_test() -> None:
    numbers = [
        int(found) for found in re.findall(r"^    (\d+)\. ", str(rules.__doc__), re.MULTILINE)
    ]
    assert numbers == list(range(1, len(numbers) + 1))
    tested = [int(found[1]) for name in globals() if (found := re.match(r"test_rule_(\d+)_", name))]
    assert list(dict.fromkeys(tested)) == numbers


# -- ownership ------------------------------------------------------------------------------------


def test_rule_1_the_engine_thread_alone_runs_the_model() -> None:
    async def scenario() -> set[str]:
        bench = ThreadedEngine(asyncio.get_running_loop())
        threads: set[str] = set()
        bench.forward.fault = lambda *_: threads.add(threading.current_thread().name)
        bench.engine.start()
        await asyncio.gather(*(bench.ask() for _ in range(5)))
        bench.stop()
        return threads

    assert asyncio.run(scenario()) == {"engine"}


def test_rule_2_the_event_loop_alone_hears_that_a_job_is_done() -> None:
    async def scenario() -> set[int]:
        bench = ThreadedEngine(asyncio.get_running_loop())
        heard: set[int] = set()
        done = asyncio.Event()

        def on_done(_: Job) -> None:
            heard.add(threading.get_ident())
            done.set()

        deadline = bench.clock.now() + 30
        job = bench.scheduler.admit(bench.model, np.array([0]), 1, 0, deadline, on_done)
        bench.scheduler.submit(job, [image(1)])
        bench.engine.start()
        await done.wait()
        bench.stop()
        return heard

    assert asyncio.run(scenario()) == {threading.get_ident()}


def test_rule_3_the_lock_is_never_held_while_the_model_runs() -> None:
    bench = Bench()
    late: list[Job] = []

    def ask_meanwhile(*_: object) -> None:
        if not late:  # from another thread: the lock would not let it pass
            thread = threading.Thread(target=lambda: late.append(bench.ask()))
            thread.start()
            thread.join(10)

    bench.forward.fault = ask_meanwhile
    first = bench.ask()
    bench.run_all()
    assert bench.done == [first, *late]
    assert len(late) == 1


# -- admission ------------------------------------------------------------------------------------


def test_rule_4_a_request_is_let_in_whole_or_refused_whole_before_decoding() -> None:
    bench = Bench(SchedulerLimits(max_queue_rows=10))
    bench.admit(tasks=(0, 1), images=3)
    with pytest.raises(OverloadedError):
        bench.admit(tasks=(0, 1, 2), images=2)
    assert bench.scheduler.queue_rows == 6
    bench.scheduler.check_room(bench.clock.now() + 10)
    bench.admit(tasks=(0, 1), images=2)
    assert bench.scheduler.queue_rows == 10
    sheds = bench.telemetry.sheds["queue_rows"]
    with pytest.raises(OverloadedError):
        bench.scheduler.check_room(bench.clock.now() + 10)
    assert bench.telemetry.sheds["queue_rows"] == sheds + 1


def test_rule_5_rows_and_bytes_are_bounded() -> None:
    one_image = 28 * 28 * 3
    bench = Bench(SchedulerLimits(max_queue_bytes=3 * one_image + 100))
    bench.ask(values=(1, 2))
    with pytest.raises(OverloadedError, match="max_queue_bytes") as caught:
        bench.admit(encoded_bytes=101)
    assert caught.value.details["reason"] == "queue_bytes"
    bench.admit(encoded_bytes=100)
    assert bench.scheduler.queue_bytes == 3 * one_image + 100
    bench.run_all()
    assert bench.scheduler.queue_bytes == one_image + 100  # the one that is still being decoded
    assert bench.telemetry.sheds == {"queue_bytes": 1}
    assert bench.telemetry.outcomes["shed"] == 1


def test_rule_6_a_request_that_would_be_answered_too_late_is_refused_at_once() -> None:
    bench = Bench()
    bench.forward.seconds_per_row = 0.1
    bench.ask(values=range(10))
    bench.run_all()  # measured: ten rows a second
    bench.ask(tasks=(0, 1), values=range(20), timeout=60)
    with pytest.raises(OverloadedError, match="too late") as caught:
        bench.admit(images=10, timeout=2)
    assert caught.value.details["reason"] == "deadline"
    bench.admit(images=10, timeout=60)


def test_rule_6_unless_nothing_else_waits() -> None:
    bench = Bench()
    bench.forward.seconds_per_row = 0.1
    bench.ask(values=range(10))
    bench.run_all()
    bench.admit(images=10, timeout=0.5)


def test_rule_6_a_crowd_waits_no_longer_than_max_queue_delay() -> None:
    bench = Bench(SchedulerLimits(max_queue_delay_s=5.0))
    bench.forward.seconds_per_row = 0.1
    bench.ask(values=range(10))
    bench.run_all()
    for _ in range(51):  # five seconds of work, and the new one's own time
        bench.ask(timeout=60)
    with pytest.raises(OverloadedError, match="max_queue_delay_ms") as caught:
        bench.ask(timeout=60)
    assert caught.value.details["reason"] == "queue_delay"


def test_rule_7_a_refused_request_is_told_when_to_come_back() -> None:
    bench = Bench(SchedulerLimits(max_queue_rows=100))
    bench.forward.seconds_per_row = 0.1
    bench.ask(values=range(10))
    bench.run_all()
    bench.ask(values=range(95), timeout=600)
    with pytest.raises(OverloadedError, match="try again in 10 s") as caught:
        bench.admit(images=10)
    assert caught.value.retry_after_s == 10  # 95 rows at 10 a second


# -- order ----------------------------------------------------------------------------------------


def test_rule_8_the_earliest_deadline_goes_first() -> None:
    bench = Bench(SchedulerLimits(max_batch_rows=1, ageing_s=5.0))
    late = bench.ask(timeout=4.0)
    soon = bench.ask(timeout=1.0)
    bench.run_all()
    assert bench.done == [soon, late]


def test_rule_8_nobody_is_overtaken_by_requests_that_arrive_more_than_the_ageing_time_later() -> (
    None
):
    bench = Bench(SchedulerLimits(max_batch_rows=1, ageing_s=2.0))
    patient = bench.ask(timeout=60.0)
    bench.clock.advance(1.0)
    pressing = bench.ask(timeout=0.5)
    bench.clock.advance(1.1)  # 2.1 s after the patient one
    too_late_to_overtake = bench.ask(timeout=0.1)
    for _ in range(3):
        bench.step()
    assert pressing.failure is not None  # its deadline passed before the engine asked
    assert bench.done == [pressing, patient, too_late_to_overtake]


def test_rule_9_equals_leave_in_order_of_arrival_whatever_their_tasks() -> None:
    bench = Bench(SchedulerLimits(max_batch_rows=1))
    jobs = [bench.ask(tasks=(task,)) for task in (3, 0, 2, 1, 0)]
    bench.run_all()
    assert bench.done == jobs


def test_rule_9_no_task_starves_under_a_stream_of_another() -> None:
    bench = Bench(SchedulerLimits(max_batch_rows=4, ageing_s=1.0))
    bench.forward.seconds_per_batch = 0.1
    rare = bench.ask(tasks=(1,), timeout=60)
    for _ in range(40):  # more than the engine can do, all more pressing
        for _ in range(6):
            bench.ask(tasks=(0,), timeout=0.9)
        bench.step()
        if rare in bench.done:
            break
    waited = bench.clock.now() - rare.arrived
    assert rare in bench.done
    assert waited <= 1.0 + 2 * 0.1


def test_rule_10_while_others_wait_a_job_gets_at_most_its_share() -> None:
    bench = Bench(SchedulerLimits(max_batch_rows=8, max_request_share=0.5))
    large = bench.ask(values=range(20))
    small = [bench.ask(values=(1,)) for _ in range(4)]
    run = bench.step()
    assert isinstance(run, Run)
    assert {part.job: count_rows([part]) for part in run.slices} == {
        large: 4,
        **dict.fromkeys(small, 1),
    }


def test_rule_10_or_one_image() -> None:
    bench = Bench(SchedulerLimits(max_batch_rows=4, max_request_share=0.25))
    large = bench.ask(tasks=(0, 1, 2), values=(1, 2))
    small = bench.ask(tasks=(0,))
    assert jobs_of(bench.step()) == [large, small]
    assert len(bench.forward.batches[0].images) == 2


def test_rule_10_room_that_nobody_else_uses_is_its_own() -> None:
    bench = Bench(SchedulerLimits(max_batch_rows=8, max_request_share=0.5))
    large = bench.ask(values=range(20))
    bench.ask(values=(1,))
    run = bench.step()
    assert isinstance(run, Run)
    assert count_rows(run.slices) == 8
    assert large.taken == 7


def test_rule_11_a_batch_has_rows_of_one_served_model_only() -> None:
    bench = Bench()
    other = make_model(version=2)
    first = bench.ask()
    second = bench.ask(model=other)
    third = bench.ask()
    assert [jobs_of(run) for run in bench.run_all()] == [[first, third], [second]]
    assert fake_forward(other).sizes == [1]


def test_rule_12_an_image_is_in_a_batch_once() -> None:
    bench = Bench()
    bench.ask(tasks=(0, 1, 2, 3), values=(10, 20))
    bench.ask(tasks=(2, 0), values=(30,))
    bench.run_all()
    [batch] = bench.forward.batches
    assert batch.images[:, 0, 0, 0].tolist() == [10, 20, 30]
    assert batch.image_index.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert batch.task_index.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 2, 0]


def test_rule_12_a_job_larger_than_a_batch_is_spread_over_several() -> None:
    bench = Bench(SchedulerLimits(max_batch_rows=5))
    values = [0, 50, 100, 150, 200]
    job = bench.ask(tasks=(1, 0), values=values)
    bench.run_all()
    assert bench.forward.sizes == [4, 4, 2]  # whole images
    wanted = [expected_logit(value, task) for value in values for task in (1, 0)]
    assert job.logits[:, 0] == pytest.approx(wanted, abs=1e-5)


def test_rule_12_an_image_with_more_tasks_than_a_batch_is_torn_apart() -> None:
    bench = Bench(SchedulerLimits(max_batch_rows=3))
    job = bench.ask(tasks=(0, 1, 2, 3), values=(0, 255))
    bench.run_all()
    assert bench.forward.sizes == [3, 3, 2]
    assert job.logits[:, 0] == pytest.approx([0, 0.1, 0.2, 0.3, 1, 1.1, 1.2, 1.3], abs=1e-5)


# -- start ----------------------------------------------------------------------------------------


def stream(bench: Bench, gap: float, rows: int = 1, count: int = 30) -> None:
    """Requests that arrive every ``gap`` seconds, each answered before the next."""
    for _ in range(count):
        bench.clock.advance(gap)
        job = bench.ask(values=range(rows))
        bench.scheduler.withdraw(job, "cancelled")
    bench.clock.advance(gap)


def test_rule_13_a_free_engine_starts_at_once() -> None:
    bench = Bench()
    bench.teach(fixed=0.0, per_row=0.01)  # nothing to be gained from larger batches
    stream(bench, gap=0.0001)
    bench.ask()
    run = bench.step()
    assert isinstance(run, Run)
    assert run.release == "idle"


def test_rule_13_unless_waiting_for_the_next_request_pays() -> None:
    bench = Bench(SchedulerLimits(max_batch_delay_s=0.002))
    bench.teach(fixed=0.02, per_row=0.0001)
    stream(bench, gap=0.0002)
    bench.ask()
    held = bench.step()
    assert isinstance(held, Sleep)
    assert held.seconds == pytest.approx(0.002)
    bench.clock.advance(0.0002)
    bench.ask()
    assert isinstance(bench.step(), Sleep)
    assert bench.forward.batches == []


def test_rule_13_waiting_does_not_pay_when_requests_are_rare() -> None:
    bench = Bench()
    bench.teach(fixed=0.02, per_row=0.0001)
    stream(bench, gap=5.0)
    bench.ask()
    run = bench.step()
    assert isinstance(run, Run)
    assert run.release == "idle"


@pytest.mark.parametrize(
    ("case", "reason"),
    [("delay", "delay"), ("deadline", "deadline"), ("full", "full"), ("drain", "drain")],
)
def test_rule_14_it_never_waits_longer_than(case: str, reason: str) -> None:
    bench = Bench(SchedulerLimits(max_batch_delay_s=0.002, max_batch_rows=40))
    bench.teach(fixed=0.02, per_row=0.0001)
    stream(bench, gap=0.0002)
    bench.ask(timeout=0.0205 if case == "deadline" else 10.0)
    assert isinstance(bench.step(), Sleep)
    if case == "full":
        for _ in range(39):
            bench.ask()
    elif case == "drain":
        bench.scheduler.drain()
    else:
        bench.clock.advance(0.0021 if case == "delay" else 0.001)
    run = bench.step()
    assert isinstance(run, Run)
    assert run.release == reason


def test_rule_15_no_batch_is_planned_to_last_longer_than_max_batch_duration() -> None:
    bench = Bench(SchedulerLimits(max_batch_duration_s=0.5, max_batch_rows=200))
    bench.teach(fixed=0.1, per_row=0.01)
    bench.ask(values=range(100))
    bench.run_all()
    assert bench.forward.sizes[0] == 40


def test_rule_15_but_32_rows_are_always_allowed() -> None:
    bench = Bench(SchedulerLimits(max_batch_duration_s=0.01, max_batch_rows=200))
    bench.teach(fixed=0.1, per_row=0.01)
    bench.ask(values=range(100))
    bench.run_all()
    assert bench.forward.sizes[0] == 32


def test_rule_16_of_many_requests_a_batch_takes_what_makes_its_fixed_cost_small() -> None:
    bench = Bench(SchedulerLimits(max_batch_rows=200))
    bench.teach(fixed=0.00099, per_row=0.001)
    for _ in range(60):
        bench.ask()
    bench.run_all()
    assert bench.forward.sizes[0] == 39
    assert 0.00099 / (0.00099 + 39 * 0.001) < 1 / 40 < 0.00099 / (0.00099 + 38 * 0.001)


def test_rule_16_eight_rows_at_least() -> None:
    bench = Bench(SchedulerLimits(max_batch_rows=200))
    bench.teach(fixed=0.0001, per_row=0.01)
    for _ in range(8):
        bench.ask()
    bench.run_all()
    assert bench.forward.sizes[0] == 8


# -- cancellation and deadlines -------------------------------------------------------------------


def test_rule_17_cancelling_removes_a_jobs_waiting_rows_at_once() -> None:
    bench = Bench()
    gone = bench.ask(values=range(7))
    mate = bench.ask(values=(255,))
    assert bench.scheduler.withdraw(gone, "cancelled")
    assert bench.scheduler.queue_rows == 1
    bench.run_all()
    assert bench.forward.sizes == [1]
    assert bench.done == [mate]
    assert mate.logits[0, 0] == pytest.approx(expected_logit(255, 0))
    assert bench.telemetry.outcomes == {"cancelled": 7, "ok": 1}
    assert not bench.scheduler.withdraw(gone, "cancelled")


def test_rule_17_rows_in_the_engine_run_on_and_are_thrown_away() -> None:
    bench = Bench(SchedulerLimits(max_batch_rows=4))
    gone = bench.ask(values=range(6))
    mate = bench.ask(values=(255,))

    def cancel_while_running(*_: object) -> None:
        bench.scheduler.withdraw(gone, "cancelled")

    bench.forward.fault = cancel_while_running
    bench.run_all()
    assert bench.done == [mate]
    assert bench.telemetry.outcomes == {"cancelled": 6, "ok": 1}
    assert bench.scheduler.queue_rows == 0
    assert bench.scheduler.queue_bytes == 0


def test_rule_18_no_row_is_run_after_its_jobs_deadline() -> None:
    bench = Bench()
    late = bench.ask(values=range(3), timeout=1.0)
    mate = bench.ask(timeout=5.0)
    bench.clock.advance(1.0)
    bench.run_all()
    assert bench.forward.sizes == [1]
    assert isinstance(late.failure, DeadlineError)
    assert late.failure.details == {"stage": "queue"}
    assert bench.done == [late, mate]
    assert mate.failure is None
    assert bench.telemetry.outcomes == {"expired": 3, "ok": 1}


def test_rule_18_also_not_the_rest_of_a_job_that_has_begun() -> None:
    bench = Bench(SchedulerLimits(max_batch_rows=2))
    bench.forward.seconds_per_batch = 0.6
    job = bench.ask(values=range(6), timeout=1.0)
    bench.run_all()
    assert bench.forward.sizes == [2, 2]
    assert isinstance(job.failure, DeadlineError)
    assert bench.telemetry.outcomes == {"ok": 4, "expired": 2}


# -- exceptions -----------------------------------------------------------------------------------


def poison(value: int, error: Exception) -> Any:
    """A fault that raises for every batch with an image of ``value``."""

    def fault(batch: RowBatch, _: Tensor) -> None:
        if (batch.images[:, 0, 0, 0] == value).any():
            raise error

    return fault


@pytest.mark.parametrize("guilty", [0, 3, 6])
def test_rule_19_a_failing_batch_is_halved_until_the_guilty_rows_are_alone(guilty: int) -> None:
    bench = Bench()
    bench.forward.fault = poison(66, ValueError("cannot convolve"))
    values = [10 + i for i in range(7)]
    values[guilty] = 66
    jobs = [bench.ask(tasks=(0, 1), values=(value,)) for value in values]
    bench.run_all()
    assert sorted(map(id, bench.done)) == sorted(map(id, jobs))
    for job, value in zip(jobs, values, strict=True):
        if value == 66:
            assert {type(error) for error in job.errors.values()} == {ForwardError}
            assert sorted(job.errors) == [0, 1]
        else:
            assert not job.errors
            assert job.logits[:, 0] == pytest.approx(
                [expected_logit(value, 0), expected_logit(value, 1)], abs=1e-5
            )
    assert bench.telemetry.outcomes == {"ok": 12, "error": 2}


def test_rule_20_if_the_probe_row_fails_too_the_engine_is_broken_and_stops() -> None:
    bench = Bench()

    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    bench.forward.fault = broken
    bench.ask(values=range(64))
    with pytest.raises(EngineBrokenError, match="illegal memory access"):
        bench.step()
    assert bench.forward.sizes == [64, 1]  # no bisection of innocent rows


def test_rule_21_out_of_memory_halves_the_batch_limit_and_runs_the_rows_in_halves() -> None:
    bench = Bench(SchedulerLimits(max_batch_rows=16))

    def small_memory(batch: RowBatch, _: Tensor) -> None:
        if len(batch) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")

    bench.forward.fault = small_memory
    job = bench.ask(values=range(16))
    bench.run_all()
    assert bench.forward.sizes == [16, 8, 4, 4, 8, 4, 4]
    assert not job.errors
    assert not np.isnan(job.logits[:, 0]).any()
    assert bench.scheduler.row_limit.rows == 4
    assert bench.telemetry.batches[0].failures == {"oom": 3}
    bench.forward.batches.clear()
    bench.ask(values=range(8))
    bench.run_all()
    assert bench.forward.sizes == [4, 4]


def test_rule_21_the_batch_limit_grows_back_slowly() -> None:
    bench = Bench(SchedulerLimits(max_batch_rows=64))
    bench.scheduler.row_limit.out_of_memory(64)
    limits = []
    for _ in range(64 * 10):
        bench.ask()
        bench.run_all()
        limits.append(bench.scheduler.row_limit.rows)
    assert limits[0] == 32
    assert limits[63] == 36
    assert limits[-1] == 64


def test_rule_21_a_single_row_that_does_not_fit_gets_the_error() -> None:
    bench = Bench()
    bench.forward.fault = poison(66, MemoryError())
    bad, good = bench.ask(values=(66,)), bench.ask(values=(1,))
    bench.run_all()
    assert isinstance(bad.errors[0], RowMemoryError)
    assert not good.errors


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
def test_rule_22_a_row_whose_logits_are_not_finite_gets_an_error(wrong: float) -> None:
    bench = Bench()

    def fault(batch: RowBatch, logits: Tensor) -> None:
        logits[batch.task_index == 2, 0] = wrong

    bench.forward.fault = fault
    job = bench.ask(tasks=(1, 2, 3), values=(5, 6))
    mate = bench.ask(tasks=(0,))
    bench.run_all()
    assert {row: type(error) for row, error in job.errors.items()} == {
        1: NonFiniteError,
        4: NonFiniteError,
    }
    assert not mate.errors
    assert bench.telemetry.batches[0].failures == {"nan": 1}
    assert bench.telemetry.outcomes == {"ok": 5, "error": 2}


# -- engine ---------------------------------------------------------------------------------------


def test_rule_23_a_dead_engine_fails_every_waiting_job_at_once_and_new_ones_are_refused() -> None:
    async def scenario() -> None:
        bench = ThreadedEngine(asyncio.get_running_loop())

        def die(*_: object) -> None:
            raise SystemExit(3)

        bench.forward.fault = die
        asks = [asyncio.create_task(bench.ask()) for _ in range(3)]
        await asyncio.sleep(0)
        bench.engine.start()
        jobs = await asyncio.gather(*asks)
        assert [type(job.failure) for job in jobs] == [EngineDownError] * 3
        with pytest.raises(EngineDownError, match="SystemExit"):
            await bench.ask()
        assert bench.engine.join(10)
        assert not bench.engine.alive

    asyncio.run(scenario())


def test_rule_24_a_hung_engine_does_the_same_and_may_come_back() -> None:
    clock = FakeClock()
    bench = Bench()
    scheduler = Scheduler(SchedulerLimits(), clock, RecordingTelemetry(), run_here)
    heartbeat = Heartbeat(clock)
    engine = Engine(scheduler, BatchRunner(clock, scheduler.row_limit, heartbeat), heartbeat)
    watchdog = Watchdog(engine, scheduler, heartbeat, clock, stall_s=30.0)
    release, running = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        running.set()
        assert release.wait(20)

    done: list[Job] = []
    forward = fake_forward(bench.model)
    forward.fault = hang

    def ask() -> Job:
        job = scheduler.admit(bench.model, np.array([0]), 1, 0, clock.now() + 99, done.append)
        scheduler.submit(job, [image(7)])
        return job

    hanging = ask()
    engine.start()
    assert running.wait(20)
    waiting = ask()
    clock.advance(29.0)
    assert watchdog.check() is None
    assert not done
    clock.advance(2.0)
    assert "31.0 s" in str(watchdog.check())
    assert done == [hanging, waiting]
    assert {type(job.failure) for job in done} == {EngineDownError}
    with pytest.raises(EngineDownError):
        ask()

    forward.fault = lambda *_: None
    late = scheduler.call(lambda: "late")  # unlike a request, a call can wait
    release.set()
    while watchdog.check() is not None:  # the thread beats again when it asks for work
        threading.Event().wait(0.001)
    assert late.result(20) == "late"
    assert done == [hanging, waiting]  # the late result went nowhere
    scheduler.close()
    assert engine.join(20)


def test_rule_24_within_a_call_it_has_ten_times_as_long_until_the_process_counts_as_lost() -> None:
    clock = FakeClock()
    scheduler = Scheduler(SchedulerLimits(), clock, RecordingTelemetry(), run_here)
    heartbeat = Heartbeat(clock)
    engine = Engine(scheduler, BatchRunner(clock, scheduler.row_limit, heartbeat), heartbeat)
    watchdog = Watchdog(engine, scheduler, heartbeat, clock, stall_s=30.0)
    release, running = threading.Event(), threading.Event()

    def warm_up() -> None:
        running.set()
        assert release.wait(20)

    warming = scheduler.call(warm_up)
    engine.start()
    assert running.wait(20)
    clock.advance(299.0)
    assert "299.0 s" in str(watchdog.check())  # requests are not to wait for it
    assert watchdog.lost() is None  # but a restart would only begin it again
    clock.advance(2.0)
    assert "299.0 s" in str(watchdog.lost())  # as it was first seen

    release.set()
    warming.result(20)
    while watchdog.lost() is not None:
        threading.Event().wait(0.001)
    scheduler.close()
    assert engine.join(20)
    assert "not running" in str(watchdog.lost())


# -- shutdown -------------------------------------------------------------------------------------


def test_rule_25_while_draining_new_requests_are_refused_and_those_let_in_are_answered() -> None:
    bench = Bench()
    queued, decoding = bench.ask(), bench.admit()
    bench.scheduler.drain()
    with pytest.raises(DrainingError):
        bench.admit()
    bench.scheduler.submit(decoding, [image(9)])
    bench.run_all()
    assert bench.done == [queued, decoding]
    assert not queued.failure
    assert not decoding.failure
    assert bench.telemetry.sheds == {"draining": 1}


def test_rule_26_what_is_unanswered_when_the_drain_time_is_over_gets_draining() -> None:
    bench = Bench()
    queued, decoding = bench.ask(values=(1, 2)), bench.admit()
    bench.scheduler.drain()
    bench.scheduler.end_drain()
    assert bench.done == [queued, decoding]
    assert {type(job.failure) for job in bench.done} == {DrainingError}
    bench.scheduler.submit(decoding, [image(9)])  # its decoding ends only now
    assert isinstance(bench.step(), Sleep)
    assert bench.telemetry.outcomes == {"shed": 3}


def test_rule_27_after_close_the_engine_ends_behind_the_batch_it_is_running() -> None:
    bench = Bench()
    bench.forward.fault = lambda *_: bench.scheduler.close()
    first = bench.ask()
    assert isinstance(bench.step(), Run)
    assert isinstance(bench.step(), Stop)
    assert isinstance(first.failure, DrainingError)


# -- priority -------------------------------------------------------------------------------------

BULK = Priority.BULK


def test_rule_28_a_batch_has_rows_of_one_level_only_and_the_order_holds_within_it() -> None:
    bench = Bench()
    bulk_late = bench.ask(priority=BULK, timeout=1.5)
    bulk_soon = bench.ask(priority=BULK, timeout=0.5)
    late, soon = bench.ask(timeout=1.5), bench.ask(timeout=0.5)
    runs = [jobs_of(run) for run in bench.run_all()]
    assert runs == [[soon, late], [bulk_soon, bulk_late]]


def test_rule_29_an_interactive_job_waits_for_one_batch_of_bulk_at_most() -> None:
    bench = Bench(SchedulerLimits(max_batch_rows=4, bulk_interval_s=2.0))
    bench.forward.seconds_per_batch = 0.1
    bulk = bench.ask(values=range(100), timeout=60, priority=BULK)
    came: list[Job] = []

    def comes(*_: object) -> None:
        if len(bench.forward.batches) == 3:  # while a batch of bulk runs
            came.extend(bench.ask(values=range(4)) for _ in range(15))

    bench.forward.fault = comes
    for _ in range(3 + 15):
        bench.step()
    assert bench.done == came
    assert bulk.taken == 12
    bench.step()  # nobody interactive is left
    assert bulk.taken == 16


def test_rule_30_bulk_rows_passed_over_for_bulk_interval_get_one_batch() -> None:
    bench = Bench(SchedulerLimits(max_batch_rows=4, bulk_interval_s=1.0))
    bench.forward.seconds_per_batch = 0.25
    bulk = bench.ask(values=range(12), timeout=600, priority=BULK)
    levels = []
    for _ in range(11):  # more interactive rows than the engine can do
        bench.ask(values=range(4))
        levels.append(jobs_of(bench.step())[0].priority.label)
    assert [position for position, level in enumerate(levels) if level == "bulk"] == [4, 9]
    assert bulk.taken == 8


def test_rule_30_the_interval_begins_anew_when_bulk_is_not_passed_over() -> None:
    bench = Bench(SchedulerLimits(max_batch_rows=1, bulk_interval_s=1.0))
    gone, first = bench.ask(priority=BULK), bench.ask()
    assert jobs_of(bench.step()) == [first]
    bench.scheduler.withdraw(gone, "cancelled")
    bench.clock.advance(5.0)
    bench.step()
    bulk, second = bench.ask(priority=BULK), bench.ask()
    assert [jobs_of(run) for run in bench.run_all()] == [[second], [bulk]]


def test_rule_31_an_interactive_request_takes_the_room_of_bulk_requests_the_latest_first() -> None:
    bench = Bench(SchedulerLimits(max_queue_rows=10))
    first, second, third = (bench.ask(values=range(3), priority=BULK) for _ in range(3))
    decoding = bench.admit(priority=BULK)
    with pytest.raises(OverloadedError, match="max_queue_rows"):
        bench.admit(priority=BULK)
    bench.scheduler.check_room(bench.clock.now() + 10)
    assert bench.scheduler.queue_rows == 10
    urgent = bench.ask(values=range(3))
    assert bench.done == [decoding, third]
    assert isinstance(third.failure, OverloadedError)
    assert third.failure.details["reason"] == "displaced"
    assert third.failure.retry_after_s >= 1
    assert bench.telemetry.sheds == {"queue_rows": 1, "displaced": 2}
    assert bench.telemetry.outcomes["shed"] == 1 + 1 + 3
    bench.run_all()
    assert bench.done[2:] == [urgent, first, second]


def test_rule_31_nobody_is_sent_away_for_a_request_that_does_not_fit_even_so() -> None:
    bench = Bench(SchedulerLimits(max_queue_rows=10))
    bench.ask(values=range(5))
    bulk = bench.ask(values=range(5), priority=BULK)
    with pytest.raises(OverloadedError):
        bench.ask(values=range(6))
    assert not bulk.closed


def test_rule_31_bytes_are_room_too() -> None:
    bench = Bench(SchedulerLimits(max_queue_bytes=3 * 28 * 28 * 3))
    bulk = bench.ask(values=(1, 2), priority=BULK)
    bench.ask(values=(3, 4))
    assert bench.done == [bulk]


def test_rule_32_bulk_rows_do_not_count_in_the_time_that_an_interactive_request_waits() -> None:
    bench = Bench()
    bench.forward.seconds_per_row = 0.1
    bench.ask(values=range(10))
    bench.run_all()  # measured: ten rows a second
    bench.ask(values=range(100), timeout=60, priority=BULK)
    with pytest.raises(OverloadedError, match="too late"):
        bench.ask(timeout=2, priority=BULK)
    bench.ask(timeout=2)


# -- idle work ------------------------------------------------------------------------------------


def test_rule_33_a_call_for_idle_times_waits_until_nobody_waits_for_an_answer() -> None:
    bench = Bench()
    ran: list[str] = []
    for name in ("first", "second"):
        bench.scheduler.call_when_idle(partial(ran.append, name))
    decoding = bench.admit()
    bench.ask()
    bench.run_all()
    assert isinstance(bench.step(), Sleep), "a request is being decoded"
    bench.scheduler.submit(decoding, [image(1)])
    assert isinstance(bench.step(), Run)
    assert ran == []
    bench.step()
    bench.ask()
    assert isinstance(bench.step(), Run), "one that came meanwhile goes before the next call"
    assert ran == ["first"]
    bench.step()
    assert ran == ["first", "second"]


def test_rule_34_while_draining_no_idle_call_is_begun_and_a_dead_engine_fails_them() -> None:
    bench = Bench()
    bench.scheduler.drain()
    call = bench.scheduler.call_when_idle(lambda: None)
    assert isinstance(bench.step(), Sleep)
    bench.scheduler.engine_lost("it died")
    with pytest.raises(EngineDownError):
        call.result(0)
    with pytest.raises(EngineDownError):
        bench.scheduler.call_when_idle(lambda: None).result(0)


# -- answers --------------------------------------------------------------------------------------


def test_rule_35_answers_are_handed_over_when_the_next_batch_leaves_the_interpreter_to_others() -> (
    None
):
    bench = Bench(SchedulerLimits(max_batch_rows=1))
    first, second = bench.ask(), bench.ask()
    told: list[list[Job]] = []
    bench.forward.fault = lambda batch, logits: told.append(list(bench.done))
    bench.engine.step()
    assert (told, bench.done) == ([[]], []), "first of all the next batch is put together"
    bench.engine.step()
    assert (told[1], bench.done) == ([first], [first])
    assert isinstance(bench.engine.step(), Sleep)
    assert bench.done == [first, second]


def test_rule_35_they_are_handed_over_too_where_the_next_batch_fails_before() -> None:
    class Broken(FakeForward):
        def __call__(self, batch: RowBatch, computing: Computing = nobody_waits) -> Tensor:
            raise RuntimeError("no kernels")

    bench = Bench()
    first = bench.ask()
    bench.ask(model=replace(bench.model, forward=Broken(bench.model.config)))
    bench.engine.step()
    with pytest.raises(EngineBrokenError):
        bench.engine.step()
    assert bench.done == [first]
