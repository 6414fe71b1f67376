"""Several models and several versions in one process, and what administrators do to them."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from model.errors import BundleError, UnknownModelError, UnknownVersionError
from service.core.canary import Lot
from service.core.clock import SystemClock
from service.core.errors import (
    LoadFailedError,
    LoadingError,
    ModelUnavailableError,
    TooManyVersionsError,
    VersionInUseError,
)
from service.core.plan import ModelPlan
from service.core.prediction import EncodedImage
from service.core.served import ServedModel
from service.core.serving import CoreOptions, ServingCore
from tests.service.core.test_refresh import Shelf, run
from tests.service.core.test_serving import until
from tests.service.fakes import RecordingTelemetry, SomeModels, fake_forward
from tests.service.pictures import picture

ANY = Lot("any", "never")
CANARY = Lot("any", "always")


@asynccontextmanager
async def serving(
    *plans: ModelPlan, shelves: dict[str, Shelf] | None = None, max_versions: int = 8
) -> AsyncIterator[ServingCore]:
    """A core with the shelves' models, by default two, that has loaded what was planned."""
    shelves = shelves or {"fashion": Shelf(), "birds": Shelf()}
    for name, shelf in shelves.items():
        shelf.name = name
    options = CoreOptions(
        plans, warmup_s=0.0, drain_s=5.0, refresh_interval_s=3600.0, max_versions=max_versions
    )
    core = ServingCore(options, SomeModels(**shelves), RecordingTelemetry(), SystemClock())
    await core.start()
    try:
        places = [place for versions in core.models for _, place in versions.places()]
        await until(lambda: all(place.holder.state != "loading" for place in places))
        yield core
    finally:
        await core.stop()


def chosen(core: ServingCore, name: str | None = None, version: int | None = None) -> str:
    model = core.models.choose(name, version, ANY)
    return f"{model.name}@{model.version}"


def test_a_request_names_model_and_version_or_gets_the_first_models() -> None:
    async def scenario() -> None:
        plans = ModelPlan("fashion", 3, beside=(2,)), ModelPlan("birds")
        async with serving(*plans) as core:
            assert chosen(core) == chosen(core, "fashion") == chosen(core, None, 3) == "fashion@3"
            assert chosen(core, None, 2) == "fashion@2"
            assert chosen(core, "birds") == chosen(core, "birds", 1) == "birds@1"
            with pytest.raises(UnknownVersionError, match="served: 2, 3") as caught:
                chosen(core, "fashion", 1)
            assert caught.value.details["served"] == [2, 3]
            with pytest.raises(UnknownModelError, match="served: 'fashion', 'birds'"):
                chosen(core, "shoes")

    run(scenario)


def test_one_engine_answers_all_and_no_batch_mixes_versions() -> None:
    async def scenario() -> None:
        plans = ModelPlan("fashion", 3, beside=(2,)), ModelPlan("birds")
        async with serving(*plans) as core:
            models = [model for versions in core.models for model in versions.loaded()]

            async def ask(model: ServedModel) -> ServedModel:
                images = [EncodedImage("0", picture(10))]
                deadline = core.clock.now() + 20
                return (await core.predictor.predict(model, images, [0], deadline)).model

            asked = models * 20
            assert await asyncio.gather(*map(ask, asked)) == asked
            reports = core.predictor._telemetry.batches  # type: ignore[attr-defined]
            assert {report.model for report in reports} == set(models)
            assert sum(report.rows for report in reports) == 60
            assert len({id(fake_forward(model)) for model in models}) == 3

    run(scenario)


def test_a_model_that_is_refused_leaves_the_others_alone() -> None:
    async def scenario() -> None:
        bad = Shelf()
        bad.faults[1] = BundleError("truncated")
        plans = ModelPlan("birds"), ModelPlan("fashion")
        async with serving(*plans, shelves={"birds": bad, "fashion": Shelf()}) as core:
            core.check_ready()
            assert chosen(core, "fashion") == "fashion@1"
            with pytest.raises(ModelUnavailableError, match="truncated"):
                chosen(core, "birds")
            await core.models.unload("fashion", None)
            with pytest.raises(ModelUnavailableError):
                core.check_ready()

    run(scenario)


def test_ready_waits_for_the_first_load_of_every_planned_model() -> None:
    async def scenario() -> None:
        go = threading.Event()

        def slow(model: ServedModel) -> None:
            assert go.wait(20)

        shelf = Shelf()
        shelf.change = slow
        core = ServingCore(
            CoreOptions((ModelPlan("fashion"), ModelPlan("birds")), warmup_s=0.0),
            SomeModels(fashion=Shelf(), birds=shelf),
            RecordingTelemetry(),
            SystemClock(),
        )
        await core.start()
        try:
            await until(lambda: core.holder.state == "ready" or bool(shelf.loads))
            with pytest.raises(LoadingError, match="is being loaded"):
                core.check_ready()
            go.set()
            await until(lambda: {v.stable.holder.state for v in core.models} == {"ready"})
            core.check_ready()
        finally:
            go.set()
            await core.stop()

    run(scenario)


def test_the_canary_answers_nobody_before_the_stable_version_or_if_it_is_refused() -> None:
    async def scenario() -> None:
        shelf = Shelf(version=2)
        shelf.faults[1] = BundleError("truncated")
        plan = ModelPlan("fashion", 1, canary="latest", canary_share=1.0)
        async with serving(plan, shelves={"fashion": shelf}) as core:
            assert core.models.default.find(2).version == 2
            with pytest.raises(ModelUnavailableError):
                core.models.choose(None, None, CANARY)
            shelf.faults, shelf.stamp = {3: BundleError("damaged")}, "b"
            assert await core.refresher.look() == "swapped"
            assert core.models.choose(None, None, CANARY).version == 2
            canary = core.models.default.canary
            assert canary is not None
            shelf.version = 3
            assert await canary.look() == "refused"
            assert core.models.choose(None, None, CANARY).version == 2
            await core.models.set_canary(None, None, 0.0)
            assert core.models.choose(None, None, CANARY).version == 1

    run(scenario)


def test_the_canary_follows_latest_while_the_stable_version_is_pinned_and_is_promoted_at_once() -> (
    None
):
    async def scenario() -> None:
        shelf = Shelf()
        plan = ModelPlan("fashion", 1, canary="latest", canary_share=1.0)
        async with serving(plan, shelves={"fashion": shelf}) as core:
            canary = core.models.default.canary
            assert canary is not None
            shelf.version = 2
            assert await canary.look() == "swapped"
            assert core.models.choose(None, None, ANY).version == 1
            loads = list(shelf.loads)
            assert await core.refresher.pin(2) == "swapped"
            assert shelf.loads == loads, "what is in memory is not loaded again"
            assert core.models.choose(None, None, ANY) is core.models.choose(None, None, CANARY)
            assert core.refresher.roll_back().version == 1

    run(scenario)


def test_a_version_is_loaded_beside_and_unloaded_and_gone_from_memory() -> None:
    async def scenario() -> None:
        async with serving(ModelPlan("fashion", 1)) as core:
            models = core.models
            assert await models.load("fashion", 2) == "swapped"
            assert await models.load("fashion", 2) == "unchanged"
            assert (chosen(core), chosen(core, None, 2)) == ("fashion@1", "fashion@2")
            forward = weakref.ref(core.models.choose(None, 2, ANY).forward)
            with pytest.raises(VersionInUseError, match="pin another one"):
                await models.unload("fashion", 1)
            await models.unload("fashion", 2)
            with pytest.raises(UnknownVersionError):
                chosen(core, None, 2)
            core.predictor._telemetry.loaded.clear()  # type: ignore[attr-defined]
            await asyncio.wrap_future(core.scheduler.call(lambda: None))
            gc.collect()
            assert forward() is None
            await models.unload("fashion", 2)

    run(scenario)


def test_another_model_is_loaded_and_followed_or_pinned_and_a_bad_one_leaves_no_trace() -> None:
    async def scenario() -> None:
        shelf = Shelf()
        async with serving(
            ModelPlan("fashion"), shelves={"fashion": Shelf(), "birds": shelf}
        ) as core:
            shelf.faults[1] = BundleError("truncated")
            with pytest.raises(LoadFailedError, match="truncated; no version is served"):
                await core.models.load("birds", None)
            with pytest.raises(UnknownModelError):
                chosen(core, "birds")
            with pytest.raises(UnknownModelError):
                await core.models.load("shoes", None)
            shelf.faults.clear()
            assert await core.models.load("birds", 4) == "swapped"
            assert chosen(core, "birds") == "birds@4"
            assert core.models.get("birds").stable.version == 4
            core.check_ready()
            await core.models.unload("birds", None)
            assert await core.models.load("birds", None) == "swapped"
            assert chosen(core, "birds") == "birds@4"
            await core.models.unload("birds", None)
            assert await core.models.load("birds", 3) == "swapped"
            assert chosen(core, "birds") == "birds@3"

    run(scenario)


def test_ready_stays_true_while_another_model_is_loaded() -> None:
    async def scenario() -> None:
        entered, go = threading.Event(), threading.Event()

        def slow(model: ServedModel) -> None:
            entered.set()
            assert go.wait(20)

        shelf = Shelf()
        shelf.change = slow
        async with serving(
            ModelPlan("fashion"), shelves={"fashion": Shelf(), "birds": shelf}
        ) as core:
            load = asyncio.create_task(core.models.load("birds", None))
            await until(entered.is_set)
            core.check_ready()
            go.set()
            await load
            core.check_ready()

    run(scenario)


def test_a_warm_up_is_bounded_while_anything_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[float | None] = []

    async def note(*arguments: Any) -> None:
        bounds.append(arguments[-1])

    monkeypatch.setattr("service.core.refresh.warm_up", note)

    async def scenario() -> None:
        async with serving(ModelPlan("fashion", 1)) as core:
            await core.models.set_canary("fashion", 2, 0.1)
            await core.models.load("birds", None)
            assert bounds == [None, 0.2, 0.2]

    run(scenario)


def test_versions_are_loaded_one_after_the_other() -> None:
    async def scenario() -> None:
        at_once = []
        busy = threading.Lock()

        def count(model: ServedModel) -> None:
            at_once.append(busy.acquire(blocking=False))
            threading.Event().wait(0.02)
            busy.release()

        shelves = {"fashion": Shelf(), "birds": Shelf()}
        for shelf in shelves.values():
            shelf.change = count
        plans = ModelPlan("fashion", 3, beside=(2, 1)), ModelPlan("birds", canary=4, shadow=5)
        async with serving(*plans, shelves=shelves):
            assert at_once == [True] * 6

    run(scenario)


def test_there_is_room_for_so_many_versions_and_unloading_makes_some() -> None:
    async def scenario() -> None:
        plans = ModelPlan("fashion", 1), ModelPlan("birds", 1)
        async with serving(*plans, max_versions=3) as core:
            models = core.models
            await models.set_canary("birds", 2, 0.1)
            for action in (
                models.load("fashion", 2),
                models.set_canary("fashion", 2, 0.1),
                models.set_shadow("fashion", 2),
            ):
                with pytest.raises(TooManyVersionsError, match="3 versions are served"):
                    await action
            await models.set_canary("birds", 3, 0.2)
            await models.unload("birds", None)
            await models.load("fashion", 2)
            await models.load("fashion", 3)
            with pytest.raises(TooManyVersionsError):
                await models.load("birds", None)

    run(scenario)
