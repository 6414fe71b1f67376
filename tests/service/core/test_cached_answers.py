"""The response cache between decoding and the queue, with a real engine thread."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from torch import Tensor

from model.rows import RowBatch
from service.core.prediction import EncodedImage, Prediction
from service.core.serving import ServingCore
from tests.service.core.test_serving import OPTIONS, answer_of, ask, logit, serving
from tests.service.fakes import expected_logit, fake_forward, make_model
from tests.service.pictures import NOT_AN_IMAGE, picture

CACHED = replace(OPTIONS, cache_bytes=100_000)


def rows_run(core: ServingCore) -> list[int]:
    """Rows of each batch since the warm-up."""
    return fake_forward(core.holder.current()).sizes


def check(prediction: Prediction, values: list[int], tasks: list[int]) -> None:
    for image, value in zip(prediction.images, values, strict=True):
        probabilities = answer_of(image).probabilities
        for position, task in enumerate(tasks):
            raw = expected_logit(value, task)
            wanted = raw * 1.5 - 0.5 if task % 2 == 0 else raw
            assert logit(probabilities[position, 1]) == pytest.approx(wanted, abs=1e-3)


def test_only_missing_rows_are_run_and_hits_bypass_the_queue() -> None:
    async def scenario() -> None:
        async with serving(make_model, CACHED) as (core, telemetry):
            fake_forward(core.holder.current()).batches.clear()
            check(await ask(core, 10, 20, tasks=[1, 0]), [10, 20], [1, 0])
            check(await ask(core, 20, tasks=[0, 1]), [20], [0, 1])
            check(await ask(core, 30, 20, 10, tasks=[0, 2]), [30, 20, 10], [0, 2])
            assert rows_run(core) == [4, 4]
            [_, second] = fake_forward(core.holder.current()).batches
            assert sorted(second.task_index.tolist()) == [0, 2, 2, 2]
            assert telemetry.outcomes == {"ok": 8, "cached": 4}
            assert telemetry.cached == {"hit": 4, "miss": 8}
            assert core.scheduler.unanswered_requests == 0
            assert core.cache is not None
            assert len(core.cache) == 3

    asyncio.run(scenario())


def test_another_version_does_not_answer_from_the_first_ones_cache() -> None:
    async def scenario() -> None:
        async with serving(make_model, CACHED) as (core, _):
            await ask(core, 10, tasks=[1])
            other = make_model(version=2)

            def differently(batch: RowBatch, logits: Tensor) -> None:
                logits += 1.0

            fake_forward(other).fault = differently
            core.holder.serve(other)
            found = await ask(core, 10, tasks=[1])
            assert found.model is other
            raw = expected_logit(10, 1) + 1.0
            assert logit(answer_of(found.images[0]).probabilities[0, 1]) == pytest.approx(raw, 1e-3)

    asyncio.run(scenario())


def test_a_bad_image_between_cached_ones_keeps_its_place() -> None:
    async def scenario() -> None:
        async with serving(make_model, CACHED) as (core, _):
            await ask(core, 10, tasks=[1])
            images = [
                EncodedImage("a", picture(10)),
                EncodedImage("b", NOT_AN_IMAGE),
                EncodedImage("c", picture(50)),
            ]
            deadline = core.clock.now() + 20
            model = core.holder.current()
            found = await core.predictor.predict(model, images, [1], deadline)
            assert [image.id for image in found.images] == ["a", "b", "c"]
            good = replace(found, images=[found.images[0], found.images[2]])
            check(good, [10, 50], [1])

    asyncio.run(scenario())


def test_a_row_that_failed_is_asked_again() -> None:
    broken = True

    def fault(batch: RowBatch, logits: Tensor) -> None:
        if broken:
            logits[batch.task_index == 2] = float("nan")

    async def scenario() -> None:
        nonlocal broken
        async with serving(make_model, CACHED) as (core, telemetry):
            fake_forward(core.holder.current()).fault = fault
            found = await ask(core, 10, tasks=[1, 2, 0])
            assert list(answer_of(found.images[0]).row_errors) == [1]
            broken = False
            found = await ask(core, 10, tasks=[1, 2, 0])
            check(found, [10], [1, 2, 0])
            assert telemetry.cached == {"hit": 2, "miss": 4}

    asyncio.run(scenario())


def test_without_the_setting_nothing_is_remembered() -> None:
    async def scenario() -> None:
        async with serving(make_model) as (core, telemetry):
            for _ in range(2):
                await ask(core, 10)
            assert core.cache is None
            assert telemetry.outcomes == {"ok": 2}

    asyncio.run(scenario())
