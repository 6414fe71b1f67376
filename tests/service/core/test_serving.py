"""The core as a whole, with a real engine thread and a fake network."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NoReturn

import numpy as np
import pytest
from torch import Tensor

from model.errors import BundleError, InvalidImageError, TaskRouteError
from model.rows import RowBatch
from service.core.clock import SystemClock
from service.core.errors import (
    DeadlineError,
    DrainingError,
    EngineDownError,
    LoadingError,
    ModelUnavailableError,
    NonFiniteError,
    OverloadedError,
)
from service.core.limits import SchedulerLimits
from service.core.plan import ModelPlan
from service.core.prediction import EncodedImage, ImageAnswer, ImageFailure, Prediction
from service.core.served import ServedModel
from service.core.serving import CoreOptions, ServingCore
from tests.service.fakes import (
    FakeForward,
    Load,
    RecordingTelemetry,
    expected_logit,
    fake_forward,
    make_model,
    sources_of,
)
from tests.service.pictures import TRUNCATED, picture

PLANS = (ModelPlan("fashion"),)
OPTIONS = CoreOptions(PLANS, warmup_s=0.0, drain_s=5.0)


class Gate:
    """Stops the engine inside a batch until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self, batch: RowBatch, logits: Tensor) -> None:
        self.entered.set()
        assert self.open.wait(30)


@asynccontextmanager
async def serving(
    load: Load, options: CoreOptions = OPTIONS, *, ready: bool = True
) -> AsyncIterator[tuple[ServingCore, RecordingTelemetry]]:
    telemetry = RecordingTelemetry()
    core = ServingCore(options, sources_of(load), telemetry, SystemClock())
    await core.start()
    if ready:
        await until(lambda: core.holder.state == "ready")
    try:
        yield core, telemetry
    finally:
        await core.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the condition is another thread's
            await asyncio.sleep(0.002)


async def ask(
    core: ServingCore, *values: int, tasks: list[int] | None = None, within: float = 20.0
) -> Prediction:
    images = [EncodedImage(str(i), picture(value)) for i, value in enumerate(values)]
    deadline = core.clock.now() + within
    return await core.predictor.predict(core.holder.current(), images, tasks or [0], deadline)


def answer_of(image: ImageAnswer | ImageFailure) -> ImageAnswer:
    assert isinstance(image, ImageAnswer)
    return image


def error_of(image: ImageAnswer | ImageFailure) -> TaskRouteError:
    assert isinstance(image, ImageFailure)
    return image.error


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_answers_of_many_requests_at_once_are_each_ones_own() -> None:
    async def scenario() -> None:
        async with serving(make_model) as (core, telemetry):
            found = await asyncio.gather(*(ask(core, v, 255 - v, tasks=[1]) for v in range(60)))
            for value, prediction in enumerate(found):
                shown = [answer_of(image).probabilities[0, 1] for image in prediction.images]
                assert [logit(p) for p in shown] == pytest.approx(
                    [expected_logit(value, 1), expected_logit(255 - value, 1)], abs=1e-4
                )
            assert telemetry.outcomes == {"ok": 120}
            assert core.scheduler.unanswered_requests == 0

    asyncio.run(scenario())


def test_a_bad_image_has_its_own_error_and_the_others_are_answered() -> None:
    async def scenario() -> Prediction:
        async with serving(make_model) as (core, _):
            images = [
                EncodedImage("a", picture(10)),
                EncodedImage("b", TRUNCATED),
                EncodedImage("c", error=InvalidImageError("not base64")),
                EncodedImage("d", picture(90)),
            ]
            deadline = core.clock.now() + 20
            return await core.predictor.predict(core.holder.current(), images, [3, 0], deadline)

    found = asyncio.run(scenario()).images
    assert [image.id for image in found] == ["a", "b", "c", "d"]
    assert error_of(found[1]).code == error_of(found[2]).code == "invalid_image"
    for image, value in ((found[0], 10), (found[3], 90)):
        probabilities = answer_of(image).probabilities
        assert probabilities.shape == (2, 4)
        assert probabilities[0].sum() == pytest.approx(1.0, abs=1e-6)
        raw = expected_logit(value, 0) * 1.5 - 0.5  # t0 is calibrated
        assert logit(probabilities[1, 1]) == pytest.approx(raw, abs=1e-3)


def test_nothing_but_bad_images_still_is_an_answer() -> None:
    async def scenario() -> None:
        async with serving(make_model) as (core, telemetry):
            deadline = core.clock.now() + 20
            bad = [EncodedImage("0", TRUNCATED), EncodedImage("1", b"")]
            found = await core.predictor.predict(core.holder.current(), bad, [0], deadline)
            assert [error_of(image).code for image in found.images] == ["invalid_image"] * 2
            assert not telemetry.outcomes
            assert core.scheduler.queue_bytes == 0

    asyncio.run(scenario())


def test_a_row_that_failed_leaves_the_images_other_rows_alone() -> None:
    def fault(batch: RowBatch, logits: Tensor) -> None:
        logits[batch.task_index == 1] = math.nan

    async def scenario() -> tuple[Prediction, RecordingTelemetry]:
        async with serving(make_model) as (core, telemetry):
            fake_forward(core.holder.current()).fault = fault
            return await ask(core, 5, tasks=[0, 1, 2, 3]), telemetry

    prediction, telemetry = asyncio.run(scenario())
    image = answer_of(prediction.images[0])
    assert {row: type(error) for row, error in image.row_errors.items()} == {1: NonFiniteError}
    # Counted: neither the row that failed nor the task (3) that is no question of yes or no.
    assert telemetry.said == {(0, bool(image.labels[0])): 1, (2, bool(image.labels[2])): 1}


def test_an_image_all_of_whose_rows_failed_is_a_failure() -> None:
    def fault(batch: RowBatch, logits: Tensor) -> None:
        logits[:] = math.nan

    async def scenario() -> Prediction:
        async with serving(make_model) as (core, _):
            fake_forward(core.holder.current()).fault = fault
            return await ask(core, 5, tasks=[0, 1])

    assert isinstance(error_of(asyncio.run(scenario()).images[0]), NonFiniteError)


def test_cancelling_takes_a_request_out_at_whatever_stage_and_its_mates_are_answered() -> None:
    async def scenario() -> None:
        async with serving(make_model) as (core, telemetry):
            gate = Gate()
            fake_forward(core.holder.current()).fault = gate
            running = asyncio.create_task(ask(core, 1))
            await until(gate.entered.is_set)
            queued = asyncio.create_task(ask(core, 2, 3, 4))
            mate = asyncio.create_task(ask(core, 99))
            await until(lambda: core.scheduler.queue_rows == 4)
            await until(lambda: core.scheduler.oldest_age() > 0)
            running.cancel()
            queued.cancel()
            await asyncio.gather(running, queued, return_exceptions=True)
            assert core.scheduler.queue_rows <= 1
            gate.open.set()
            found = answer_of((await mate).images[0])
            assert logit(found.probabilities[0, 1]) == pytest.approx(
                expected_logit(99, 0) * 1.5 - 0.5, abs=1e-3
            )
            assert telemetry.cancellations["forward"] == 1
            assert telemetry.outcomes["cancelled"] == 4

    asyncio.run(scenario())


def test_a_deadline_answers_although_the_engine_is_busy() -> None:
    async def scenario() -> None:
        async with serving(make_model) as (core, telemetry):
            gate = Gate()
            fake_forward(core.holder.current()).fault = gate
            with pytest.raises(DeadlineError, match="X-Request-Timeout-Ms") as caught:
                await ask(core, 1, 2, within=0.2)
            assert caught.value.details["stage"] == "forward"
            gate.open.set()
            await until(lambda: telemetry.outcomes["expired"] == 2)
            with pytest.raises(DeadlineError):
                await ask(core, 1, within=0.0)

    asyncio.run(scenario())


def test_a_refused_request_costs_no_decoding() -> None:
    async def scenario() -> None:
        options = CoreOptions(
            PLANS, warmup_s=0.0, scheduler=SchedulerLimits(max_batch_rows=2, max_queue_rows=2)
        )
        async with serving(make_model, options) as (core, telemetry):
            gate = Gate()
            fake_forward(core.holder.current()).fault = gate
            running = asyncio.create_task(ask(core, 1))
            await until(gate.entered.is_set)
            waiting = asyncio.create_task(ask(core, 1, 2))
            await until(lambda: core.scheduler.queue_rows == 2)
            before = telemetry.stages["decode"]
            with pytest.raises(OverloadedError):
                await ask(core, 1)
            assert telemetry.stages["decode"] == before
            gate.open.set()
            await asyncio.gather(running, waiting)

    asyncio.run(scenario())


def test_stopping_answers_what_is_in_flight_and_refuses_the_rest() -> None:
    async def scenario() -> None:
        async with serving(make_model) as (core, _):
            gate = Gate()
            fake_forward(core.holder.current()).fault = gate
            running = asyncio.create_task(ask(core, 1))
            await until(gate.entered.is_set)
            stopping = asyncio.create_task(core.stop())
            await until(lambda: core.scheduler.draining)
            with pytest.raises(DrainingError):
                await ask(core, 2)
            with pytest.raises(DrainingError):
                core.check_ready()
            gate.open.set()
            answer_of((await running).images[0])
            await stopping
            assert not core.engine.alive

    asyncio.run(scenario())


def test_a_drain_is_bounded() -> None:
    async def scenario() -> None:
        options = CoreOptions(PLANS, warmup_s=0.0, drain_s=0.1)
        async with serving(make_model, options) as (core, _):
            gate = Gate()
            fake_forward(core.holder.current()).fault = gate
            stuck = asyncio.create_task(ask(core, 1))
            await until(gate.entered.is_set)
            core.begin_drain()
            with pytest.raises(DrainingError, match="drain time is over"):
                await stuck
            gate.open.set()

    asyncio.run(scenario())


def test_a_dead_engine_makes_the_core_neither_live_nor_ready() -> None:
    async def scenario() -> None:
        async with serving(make_model) as (core, _):
            assert core.not_live() is None
            core.check_ready()

            def die(batch: RowBatch, logits: Tensor) -> None:
                raise SystemExit

            fake_forward(core.holder.current()).fault = die
            with pytest.raises(EngineDownError):
                await ask(core, 1)
            await until(lambda: not core.engine.alive)
            assert core.not_live() is not None
            with pytest.raises(EngineDownError):
                core.check_ready()

    asyncio.run(scenario())


def test_loading_happens_in_the_background() -> None:
    async def scenario() -> None:
        go = threading.Event()

        def slow() -> ServedModel:
            assert go.wait(30)
            return make_model()

        async with serving(slow, ready=False) as (core, telemetry):
            assert core.not_live() is None
            with pytest.raises(LoadingError):
                core.check_ready()
            go.set()
            await until(lambda: core.holder.state == "ready")
            core.check_ready()
            assert telemetry.loaded == [core.holder.current()]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (BundleError("manifest.json is missing"), "manifest.json is missing"),
        (ZeroDivisionError("surprise"), "loading failed unexpectedly .ZeroDivisionError."),
    ],
)
def test_a_model_that_cannot_be_loaded_is_refused_and_the_process_lives(
    error: Exception, message: str
) -> None:
    async def scenario() -> None:
        def broken() -> ServedModel:
            raise error

        async with serving(broken, ready=False) as (core, telemetry):
            await until(lambda: core.holder.state == "refused")
            assert core.not_live() is None
            with pytest.raises(ModelUnavailableError, match=message):
                core.check_ready()
            assert telemetry.refused == 1

    asyncio.run(scenario())


def test_a_network_that_answers_nan_is_refused_at_warm_up() -> None:
    async def scenario() -> None:
        def damaged() -> ServedModel:
            model = make_model()

            def fault(batch: RowBatch, logits: Tensor) -> None:
                logits[batch.task_index == 2, 0] = math.nan

            fake_forward(model).fault = fault
            return model

        async with serving(damaged, ready=False) as (core, _):
            await until(lambda: core.holder.state == "refused")
            with pytest.raises(ModelUnavailableError, match="NaN or infinity for 1 tasks, t2"):
                core.holder.current()

    asyncio.run(scenario())


def test_warm_up_asks_every_task_and_grows_the_batches() -> None:
    async def scenario() -> FakeForward:
        options = CoreOptions(PLANS, warmup_s=60.0, scheduler=SchedulerLimits(max_batch_rows=32))
        async with serving(lambda: make_model(tasks=70), options) as (core, _):
            assert core.scheduler.costs(core.holder.current())["fake"][1] > 0.0
            return fake_forward(core.holder.current())

    forward = asyncio.run(scenario())
    asked = {task for batch in forward.batches for task in batch.task_index.tolist()}
    assert asked == set(range(70))
    images = [len(batch.images) for batch in forward.batches]
    assert sorted(set(images)) == [1, 2, 4, 8, 16, 32]
    assert all(images.count(number) % 2 == 0 for number in set(images))


def test_predictions_hold_on_to_the_model_they_began_with() -> None:
    async def scenario() -> None:
        async with serving(make_model) as (core, _):
            gate = Gate()
            old = core.holder.current()
            fake_forward(old).fault = gate
            running = asyncio.create_task(ask(core, 1))
            await until(gate.entered.is_set)
            core.holder.serve(make_model(version=2))
            newer = asyncio.create_task(ask(core, 1))
            await asyncio.sleep(0)
            gate.open.set()
            assert (await running).model is old
            assert (await newer).model.version == 2
            np.testing.assert_equal((await newer).tasks, [0])

    asyncio.run(scenario())


def test_rows_whose_deadline_the_decoder_finds_passed_have_expired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with serving(make_model) as (core, telemetry):

            async def late(*_: object) -> NoReturn:
                raise DeadlineError("the deadline passed", stage="decode")

            monkeypatch.setattr(core.decoder, "decode", late)
            with pytest.raises(DeadlineError):
                await ask(core, 1, 2)
            assert telemetry.outcomes == {"expired": 2}
            assert core.scheduler.unanswered_requests == 0

    asyncio.run(scenario())


def test_a_task_beside_that_dies_is_told_and_does_not_keep_the_core_from_stopping(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("by accident")

    async def scenario() -> ServingCore:
        async with serving(make_model) as (core, _):
            monkeypatch.setattr(core.watchdog, "check", fail)
            await until(lambda: bool(caplog.records))
        return core

    core = asyncio.run(scenario())
    assert not core.engine.alive
    [record] = [record for record in caplog.records if record.levelno >= 50]
    assert record.getMessage() == "'watchdog' ended: restart the process"
    assert record.exc_info
