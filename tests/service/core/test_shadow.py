"""Comparison with a shadow version: a test for each rule of ``service.core.shadow``."""

from __future__ import annotations

import asyncio
import gc
import math
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest
from torch import Tensor

from model.rows import RowBatch
from service.core.clock import SystemClock
from service.core.comparison import Comparison
from service.core.plan import ModelPlan
from service.core.prediction import EncodedImage, ImageAnswer, Prediction, Timing
from service.core.served import ServedModel
from service.core.serving import CoreOptions, ServingCore
from service.core.shadow import ShadowTotals
from tests.service.core.test_refresh import Shelf, run
from tests.service.core.test_serving import Gate, until
from tests.service.fakes import (
    RecordingTelemetry,
    SomeModels,
    fake_forward,
    image,
    make_config,
    make_model,
)
from tests.service.pictures import TRUNCATED, picture

OPTIONS = CoreOptions((ModelPlan("fashion", 1, shadow=2),), warmup_s=0.0, drain_s=5.0)


class Site:
    """A core with a shadow version."""

    def __init__(self, core: ServingCore, telemetry: RecordingTelemetry) -> None:
        self.core, self.telemetry = core, telemetry

    @property
    def shadow(self) -> ServedModel:
        found = self.core.models.shadow("fashion")
        assert found is not None
        return found

    @property
    def totals(self) -> ShadowTotals:
        return self.core.shadows.totals("fashion") or ShadowTotals(0, "")

    async def ask(self, *values: int, tasks: list[int] | None = None) -> Prediction:
        images = [EncodedImage(str(at), picture(value)) for at, value in enumerate(values)]
        deadline = self.core.clock.now() + 20
        model = self.core.holder.current()
        return await self.core.predictor.predict(model, images, tasks or [0, 3], deadline)

    async def compared(self, rows: int) -> ShadowTotals:
        def seen() -> int:
            found = self.totals
            return found.compared + found.failed + found.incomparable + found.dropped

        await until(lambda: seen() >= rows)
        assert seen() == rows
        return self.totals


@asynccontextmanager
async def shadowing(shelf: Shelf | None = None) -> AsyncIterator[Site]:
    telemetry = RecordingTelemetry()
    sources = SomeModels(fashion=shelf or Shelf())
    core = ServingCore(OPTIONS, sources, telemetry, SystemClock())
    await core.start()
    try:
        await until(lambda: core.models.shadow("fashion") is not None)
        await until(lambda: core.holder.model is not None)
        yield Site(core, telemetry)
    finally:
        await core.stop()


def shift(version: int, by: float, task: int | None = None) -> Shelf:
    """A shelf whose ``version`` answers other logits, of all tasks or one."""
    shelf = Shelf()

    def change(model: ServedModel) -> None:
        def fault(batch: RowBatch, logits: Tensor) -> None:
            rows = batch.task_index == task if task is not None else slice(None)
            logits[rows, 0] += by

        if model.version == version:
            fake_forward(model).fault = fault

    shelf.change = change
    return shelf


def test_answers_are_the_stable_versions_and_differences_are_counted() -> None:
    async def scenario() -> None:
        async with shadowing(shift(2, 3.0, task=0)) as site:
            found = await site.ask(10, 200)
            assert found.model.version == 1
            totals = await site.compared(4)
            first = found.images[0]
            assert isinstance(first, ImageAnswer)
            assert (totals.version, totals.compared, totals.failed) == (2, 4, 0)
            assert totals.flips == {"t0": 1}, "the bright image said yes already"
            # t0 is calibrated: its logit counts one and a half times.
            logit = math.log(first.probabilities[0, 1] / first.probabilities[0, 0])
            expected = 1 / (1 + math.exp(-(logit + 4.5))) - first.probabilities[0, 1]
            assert totals.max_difference == pytest.approx(expected, abs=1e-5)
            assert totals.sum_difference / 4 < totals.max_difference

    run(scenario)


def test_versions_that_answer_alike_differ_by_nothing() -> None:
    async def scenario() -> None:
        async with shadowing() as site:
            await site.ask(10, 200, tasks=[3, 1])
            totals = await site.compared(4)
            assert (totals.flips.total(), totals.max_difference) == (0, 0.0)

    run(scenario)


def test_a_caller_never_waits_for_the_shadow_and_it_runs_only_when_nobody_waits() -> None:
    async def scenario() -> None:
        async with shadowing() as site:
            gate, seen = Gate(), []
            live, shadow = fake_forward(site.core.holder.current()), fake_forward(site.shadow)
            warm = len(shadow.batches)

            def note(batch: RowBatch, logits: Tensor) -> None:
                gate(batch, logits)
                seen.append(len(shadow.batches))

            live.fault = note
            first = asyncio.create_task(site.ask(1))
            await until(gate.entered.is_set)
            others = [asyncio.create_task(site.ask(value)) for value in (2, 3)]
            await until(lambda: site.core.scheduler.queue_rows == 4)
            gate.open.set()
            await asyncio.gather(first, *others)
            assert len(seen) > 1
            assert set(seen) == {warm}
            await site.compared(6)

    run(scenario)


def test_a_request_with_many_rows_is_compared_an_image_and_32_rows_at_a_time() -> None:
    async def scenario() -> None:
        shelf = Shelf()
        shelf.load = lambda published: make_model(tasks=70, version=published.version)  # type: ignore[method-assign]
        async with shadowing(shelf) as site:
            shadow = fake_forward(site.shadow)
            warm = len(shadow.batches)
            await site.ask(1, 2, tasks=list(range(70)))
            await site.compared(140)
            assert shadow.sizes[warm:] == [32, 32, 6] * 2
            assert {len(batch.images) for batch in shadow.batches[warm:]} == {1}

    run(scenario)


def test_what_waits_is_bounded_and_the_rest_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with shadowing() as site:
            monkeypatch.setattr("service.core.shadow.MOST_BYTES", 2.5 * 28 * 28 * 3)
            await site.ask(1, 2, 3, 4)
            totals = await site.compared(8)
            assert (totals.compared, totals.dropped) == (4, 4)

    run(scenario)


def test_tasks_that_the_shadow_has_not_or_asks_otherwise_are_left_out() -> None:
    async def scenario() -> None:
        shelf = Shelf()

        def fewer(model: ServedModel) -> None:
            if model.version == 2:
                config = make_config(4)
                tasks = (config.tasks[2], config.tasks[0])
                changed = config.tasks[3].model_copy(
                    update={"classes": ("a", "b", "c", "d")},
                )
                config = config.model_copy(update={"tasks": (*tasks, changed)})
                other = replace(make_model(version=2), config=config)
                fake = type(fake_forward(model))(config)
                object.__setattr__(model, "config", config)
                object.__setattr__(model, "tasks", other.tasks)
                object.__setattr__(model, "decisions", other.decisions)
                object.__setattr__(model, "max_outputs", other.max_outputs)
                object.__setattr__(model, "forward", fake)

        shelf.change = fewer
        async with shadowing(shelf) as site:
            await site.ask(10, tasks=[0, 1, 2, 3])
            totals = await site.compared(4)
            assert (totals.compared, totals.incomparable) == (2, 2)
            asked = fake_forward(site.shadow).batches[-1].task_index
            assert asked.tolist() == [1, 0], "by name, in the order asked"

    run(scenario)


def test_other_preprocessing_is_not_compared() -> None:
    async def scenario() -> None:
        shelf = Shelf()

        def larger(model: ServedModel) -> None:
            if model.version == 2:
                object.__setattr__(model, "config", make_config(size=32))

        shelf.change = larger
        async with shadowing(shelf) as site:
            await site.ask(10)
            assert (await site.compared(2)).incomparable == 2

    run(scenario)


def test_a_shadow_that_fails_harms_nobody_and_is_counted() -> None:
    async def scenario() -> None:
        async with shadowing() as site:

            def broken(batch: RowBatch, logits: Tensor) -> None:
                raise MemoryError

            fake_forward(site.shadow).fault = broken
            await site.ask(10)
            assert (await site.compared(2)).failed == 2

            def nan(batch: RowBatch, logits: Tensor) -> None:
                logits[batch.task_index == 3, 1] = math.nan

            fake_forward(site.shadow).fault = nan
            await site.ask(10)
            totals = await site.compared(4)
            assert (totals.failed, totals.compared) == (3, 1)
            assert site.core.not_live() is None
            assert site.core.scheduler.row_limit.rows == 256
            assert site.telemetry.outcomes == {"ok": 4}

    run(scenario)


def test_images_and_rows_without_an_answer_are_not_compared() -> None:
    async def scenario() -> None:
        async with shadowing() as site:

            def nan(batch: RowBatch, logits: Tensor) -> None:
                logits[batch.task_index == 3, 1] = math.nan

            model = site.core.holder.current()
            fake_forward(model).fault = nan
            images = [EncodedImage("a", TRUNCATED), EncodedImage("b", picture(3))]
            deadline = site.core.clock.now() + 20
            await site.core.predictor.predict(model, images, [3, 0], deadline)
            assert (await site.compared(1)).compared == 1

    run(scenario)


def test_what_waits_keeps_no_version_in_memory() -> None:
    async def scenario() -> None:
        async with shadowing() as site:
            gate = Gate()
            live = site.core.holder.current()
            await site.ask(5)
            await site.compared(2)
            blocked = fake_forward(live)
            blocked.fault = gate
            running = asyncio.create_task(site.ask(1))
            await until(gate.entered.is_set)
            answer = ImageAnswer("0", np.full((1, 4), 0.5), np.array([0]))
            answered = Prediction(live, np.array([0]), [answer] * 2, Timing())
            site.core.shadows.offer(answered, [image(1), image(2)])
            await asyncio.sleep(0)
            shadow = weakref.ref(site.shadow)
            await site.core.models.set_shadow("fashion", None)
            site.telemetry.loaded.clear()
            gc.collect()
            assert shadow() is None
            gate.open.set()
            await running
            assert site.core.shadows.totals("fashion") is None

    run(scenario)


def test_another_shadow_begins_anew() -> None:
    async def scenario() -> None:
        async with shadowing(shift(2, 3.0)) as site:
            await site.ask(10)
            assert (await site.compared(2)).max_difference > 0.1
            await site.core.models.set_shadow("fashion", 3)
            assert site.core.shadows.totals("fashion") is None
            await site.ask(10)
            totals = await site.compared(2)
            assert (totals.version, totals.max_difference) == (3, 0.0)
            assert [found.version for found in site.telemetry.comparisons] == [2, 3]

    run(scenario)


def test_the_version_that_answers_is_not_compared_with_itself() -> None:
    async def scenario() -> None:
        async with shadowing() as site:
            await site.core.refresher.pin(2)
            await site.ask(10)
            await asyncio.wrap_future(site.core.scheduler.call_when_idle(lambda: None))
            assert site.telemetry.comparisons == []

    run(scenario)


def test_totals_add_up() -> None:
    totals = ShadowTotals(2, "sha256:2")
    for apart in ((0.1, 0.3), (), (0.2,)):
        found = Comparison(2, "sha256:2", np.array(apart))
        found.flips["t0"], found.dropped = len(apart), 1
        totals.add(found)
    assert (totals.compared, totals.max_difference, totals.dropped) == (3, 0.3, 3)
    assert totals.sum_difference == pytest.approx(0.6)
    assert totals.flips == {"t0": 3}
