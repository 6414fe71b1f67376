"""Following a repository: a test for each rule of ``service.core.refresh``, and cases between."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.errors import (
    BundleError,
    RepositoryError,
    TaskRouteError,
    UnknownModelError,
    UnknownVersionError,
)
from model.repository import Published
from model.rows import RowBatch
from service.core.clock import Clock, SystemClock
from service.core.errors import (
    LoadFailedError,
    LoadingError,
    ModelUnavailableError,
    NoPreviousModelError,
)
from service.core.plan import ModelPlan
from service.core.prediction import EncodedImage, Prediction
from service.core.served import ServedModel
from service.core.serving import CoreOptions, ServingCore
from service.core.source import ModelSource
from tests.service.fakes import FakeClock, RecordingTelemetry, fake_forward, make_model, sources_of
from tests.service.pictures import picture

OPTIONS = CoreOptions((ModelPlan("fashion"),), warmup_s=0.0, drain_s=5.0, refresh_interval_s=3600.0)


class Shelf(ModelSource):
    """A model that a test fills: what LATEST names, and what is wrong with versions."""

    def __init__(self, version: int = 1) -> None:
        self.version = version
        self.name = "fashion"
        self.newest = 9
        self.stamp = "a"
        self.gone: Exception | None = None
        self.faults: dict[int, Exception] = {}
        self.loads: list[int] = []
        self.change: Callable[[ServedModel], None] = lambda model: None

    def published(self, version: int | None = None) -> Published:
        if self.gone is not None:
            raise self.gone
        found = version or self.version
        if found > self.newest:
            raise UnknownVersionError(f"model 'fashion' has no version {found}", version=found)
        return Published(found, f"sha256:{found:064x}", self.stamp)

    def load(self, published: Published) -> ServedModel:
        self.loads.append(published.version)
        if fault := self.faults.get(published.version):
            raise fault
        model = make_model(version=published.version, name=self.name)
        self.change(model)
        return model


class Site:
    """A core that follows a shelf; the test says when it looks."""

    def __init__(self, shelf: Shelf, core: ServingCore, telemetry: RecordingTelemetry) -> None:
        self.shelf, self.core, self.telemetry = shelf, core, telemetry
        self.look = core.refresher.look
        self.pin = core.refresher.pin

    @property
    def serving(self) -> int | None:
        model = self.core.holder.model
        return None if model is None else model.version

    async def publish(self, version: int) -> str:
        self.shelf.version = version
        return await self.look()

    async def ask(self, value: int = 100) -> Prediction:
        deadline = self.core.clock.now() + 20
        images = [EncodedImage("0", picture(value))]
        return await self.core.predictor.predict(self.core.holder.current(), images, [0], deadline)


@asynccontextmanager
async def following(
    shelf: Shelf | None = None, options: CoreOptions = OPTIONS, clock: Clock | None = None
) -> AsyncIterator[Site]:
    """A started core that has had its first look."""
    shelf, telemetry = shelf or Shelf(), RecordingTelemetry()
    core = ServingCore(options, sources_of(shelf), telemetry, clock or SystemClock())
    await core.start()
    try:
        await asyncio.sleep(0)  # lets the first look begin
        await core.refresher.look()  # waits for it
        yield Site(shelf, core, telemetry)
    finally:
        await core.stop()


def run(scenario: Callable[[], object]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


def test_a_new_version_is_loaded_beside_and_swapped_and_ready_stays_true() -> None:
    async def scenario() -> None:
        async with following() as site:
            assert site.serving == 1
            reading = threading.Event()
            go = threading.Event()

            def slow(model: ServedModel) -> None:
                assert threading.current_thread() is not threading.main_thread()
                reading.set()
                assert go.wait(20)

            site.shelf.change, site.shelf.version = slow, 2
            look = asyncio.create_task(site.look())
            await asyncio.to_thread(reading.wait, 20)
            assert (await site.ask()).model.version == 1
            site.core.check_ready()
            go.set()
            assert await look == "swapped"
            site.core.check_ready()
            assert (await site.ask()).model.version == 2
            assert await site.look() == "unchanged"
            assert site.shelf.loads == [1, 2]

    run(scenario)


def test_a_request_is_answered_by_the_version_it_began_with() -> None:
    async def scenario() -> None:
        async with following() as site:
            entered, go = threading.Event(), threading.Event()

            def gate(batch: RowBatch, logits: Tensor) -> None:
                entered.set()
                assert go.wait(20)

            old = site.core.holder.current()
            fake_forward(old).fault = gate
            running = asyncio.create_task(site.ask())
            await asyncio.to_thread(entered.wait, 20)
            waiting = [asyncio.create_task(site.ask(value)) for value in (1, 2)]
            site.shelf.version = 2
            look = asyncio.create_task(site.look())
            while site.shelf.loads != [1, 2]:  # noqa: ASYNC110 - the loader's thread
                await asyncio.sleep(0.002)
            go.set()
            await look
            assert [(await task).model for task in (running, *waiting)] == [old] * 3
            newer = site.core.holder.current()
            assert len(fake_forward(newer).batches) == 1, "more than its warm-up"
            assert (await site.ask()).model is newer

    run(scenario)


@pytest.mark.parametrize(
    "fault", [BundleError("config.json is cut short"), BundleError("format version 9")]
)
def test_a_bad_version_is_refused_once_and_again_only_when_it_changes(
    fault: TaskRouteError,
) -> None:
    async def scenario() -> None:
        async with following() as site:
            site.shelf.faults[2] = fault
            assert await site.publish(2) == "refused"
            for _ in range(3):
                assert await site.look() == "refused"
            assert (site.shelf.loads, site.telemetry.refused, site.serving) == ([1, 2], 1, 1)
            refusal = site.core.holder.refusal
            assert refusal is not None
            assert refusal.message == fault.message
            site.core.check_ready()
            site.shelf.stamp = "b"
            assert await site.look() == "refused"
            assert site.shelf.loads == [1, 2, 2]
            del site.shelf.faults[2]
            assert await site.look() == "refused", "nothing has changed"
            site.shelf.stamp = "c"
            assert await site.look() == "swapped"
            assert (site.serving, site.core.holder.refusal) == (2, None)

    run(scenario)


def test_told_to_it_tries_what_it_refused() -> None:
    async def scenario() -> None:
        async with following() as site:
            site.shelf.faults[2] = BundleError("damaged")
            await site.publish(2)
            assert await site.look(again=True) == "refused"
            assert site.shelf.loads == [1, 2, 2]

    run(scenario)


def test_latest_taken_back_from_a_bad_version_ends_the_report() -> None:
    async def scenario() -> None:
        async with following() as site:
            site.shelf.faults[2] = BundleError("damaged")
            await site.publish(2)
            assert await site.publish(1) == "unchanged"
            assert site.core.holder.refusal is None
            assert await site.publish(2) == "refused"
            assert site.shelf.loads == [1, 2, 2]

    run(scenario)


def test_a_version_that_answers_nan_is_refused_at_warm_up() -> None:
    async def scenario() -> None:
        async with following() as site:

            def poison(model: ServedModel) -> None:
                def fault(batch: RowBatch, logits: Tensor) -> None:
                    logits[:] = math.nan

                fake_forward(model).fault = fault

            site.shelf.change = poison
            assert await site.publish(2) == "refused"
            assert site.core.holder.refusal is not None
            assert "NaN" in site.core.holder.refusal.message
            assert (await site.ask()).model.version == 1

    run(scenario)


def test_what_failed_for_a_passing_reason_is_tried_again_ever_more_rarely() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        options = replace(OPTIONS, refresh_interval_s=10.0)
        async with following(options=options, clock=clock) as site:
            site.shelf.faults[2] = MemoryError()
            assert await site.publish(2) == "refused"
            for wait in (10.0, 20.0, 40.0):
                tried = len(site.shelf.loads)
                clock.advance(wait - 0.1)
                await site.look()
                assert len(site.shelf.loads) == tried
                clock.advance(0.2)
                await site.look()
                assert len(site.shelf.loads) == tried + 1
            assert site.telemetry.refused == 1, "one reason is reported once"
            site.shelf.faults.clear()
            clock.advance(80.1)
            assert await site.look() == "swapped"

    run(scenario)


def test_a_file_that_the_disk_did_not_give_is_tried_again() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        async with following(clock=clock) as site:
            error = BundleError("model.safetensors cannot be read: Input/output error")
            error.__cause__ = OSError(5, "Input/output error")
            site.shelf.faults[2] = error
            assert await site.publish(2) == "refused"
            site.shelf.faults.clear()
            clock.advance(OPTIONS.refresh_interval_s + 1)
            assert await site.look() == "swapped"

    run(scenario)


def test_a_repository_that_is_gone_is_reported_once_and_service_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        async with following() as site:
            read_at = site.core.refresher.read_at
            site.shelf.gone = RepositoryError("/models cannot be read: Stale file handle")
            caplog.clear()
            for _ in range(3):
                assert await site.look() == "unreadable"
            assert site.core.refresher.unreadable == site.shelf.gone.message
            assert site.core.refresher.read_at == read_at
            site.core.check_ready()
            assert (await site.ask()).model.version == 1
            lines = [x.getMessage() for x in caplog.records if x.levelno >= logging.ERROR]
            assert len(lines) == 1
            assert "Stale file handle; version 1 goes on answering" in lines[0]
            site.shelf.gone, site.shelf.version = None, 2
            assert await site.look() == "swapped"
            assert site.core.refresher.unreadable is None

    run(scenario)


def test_without_a_model_at_the_start_the_process_lives_and_takes_the_first_good_one() -> None:
    async def scenario() -> None:
        shelf = Shelf()
        shelf.gone = UnknownModelError("repository /models has no model 'fashion'")
        async with following(shelf) as site:
            assert site.core.not_live() is None
            with pytest.raises(ModelUnavailableError, match="has no model 'fashion'"):
                site.core.check_ready()
            shelf.gone = None
            shelf.faults[1] = BundleError("truncated")
            await site.look()
            with pytest.raises(ModelUnavailableError, match="truncated"):
                site.core.check_ready()
            assert await site.publish(2) == "swapped"
            site.core.check_ready()

    run(scenario)


def test_a_rollback_is_instant_and_lasts_until_latest_has_named_another_version() -> None:
    async def scenario() -> None:
        async with following() as site:
            with pytest.raises(NoPreviousModelError, match="none was replaced"):
                site.core.refresher.roll_back()
            await site.publish(2)
            assert site.core.refresher.roll_back().version == 1
            assert (site.telemetry.rollbacks, site.serving) == (1, 1)
            site.core.check_ready()
            site.shelf.stamp = "touched"
            assert await site.look() == "unchanged"
            assert site.serving == 1
            assert await site.publish(3) == "swapped"
            site.core.refresher.roll_back()
            assert await site.publish(1) == "unchanged"
            assert await site.publish(3) == "swapped"
            assert site.shelf.loads == [1, 2, 3], "what is kept is not loaded again"

    run(scenario)


def test_told_to_it_takes_again_what_was_rolled_back() -> None:
    async def scenario() -> None:
        async with following() as site:
            await site.publish(2)
            site.core.refresher.roll_back()
            assert await site.look(again=True) == "swapped"
            assert site.serving == 2

    run(scenario)


def test_without_keep_previous_there_is_no_rollback() -> None:
    async def scenario() -> None:
        async with following(options=replace(OPTIONS, keep_previous=False)) as site:
            await site.publish(2)
            with pytest.raises(NoPreviousModelError, match="keep_previous is off"):
                site.core.refresher.roll_back()

    run(scenario)


def test_a_pinned_version_is_looked_for_until_it_is_served_and_then_stays() -> None:
    async def scenario() -> None:
        shelf = Shelf()
        shelf.faults[1] = BundleError("truncated")
        options = replace(OPTIONS, models=(ModelPlan("fashion", 1),))
        async with following(shelf, options) as site:
            assert not site.core.refresher.follows
            assert site.serving is None
            shelf.faults.clear()
            shelf.stamp = "b"
            assert await site.look() == "swapped"
            assert await site.publish(2) == "unchanged"
            assert site.serving == 1

    run(scenario)


def test_draining_nothing_is_loaded() -> None:
    async def scenario() -> None:
        async with following() as site:
            site.core.begin_drain()
            assert await site.publish(2) == "unchanged"
            assert site.shelf.loads == [1]

    run(scenario)


def test_looks_never_overlap() -> None:
    async def scenario() -> None:
        async with following() as site:
            site.shelf.version = 2
            outcomes = await asyncio.gather(*(site.look() for _ in range(5)))
            assert outcomes == ["swapped"] + ["unchanged"] * 4
            assert site.shelf.loads == [1, 2]

    run(scenario)


def test_before_the_first_look_is_over_it_is_loading() -> None:
    async def scenario() -> None:
        core = ServingCore(OPTIONS, sources_of(Shelf()), RecordingTelemetry(), SystemClock())
        with pytest.raises(LoadingError):
            core.holder.current()

    run(scenario)


@pytest.mark.parametrize("keep_previous", [True, False])
def test_versions_that_are_neither_served_nor_kept_are_gone_from_memory(
    keep_previous: bool,
) -> None:
    alive: list[weakref.ref[Tensor]] = []

    def weigh(model: ServedModel) -> None:
        weights = torch.ones(10)
        fake_forward(model).weights = weights  # type: ignore[attr-defined]
        alive.append(weakref.ref(weights))

    async def scenario() -> None:
        shelf = Shelf()
        shelf.change = weigh
        async with following(shelf, replace(OPTIONS, keep_previous=keep_previous)) as site:
            for version in (2, 3, 4):
                await site.ask()
                assert await site.publish(version) == "swapped"
            await site.ask()
            # The engine's last action names the batch it ran until it has had another one.
            await asyncio.wrap_future(site.core.scheduler.call(lambda: None))
            site.telemetry.loaded.clear()
            site.telemetry.batches.clear()
            gc.collect()
            held = [reference() is not None for reference in alive]
            assert held == [False, False, keep_previous, True]

    run(scenario)


def test_a_refused_version_is_gone_from_memory_although_its_reason_is_kept() -> None:
    alive: list[weakref.ref[Tensor]] = []

    def break_off(model: ServedModel) -> None:
        weights = torch.ones(10)
        alive.append(weakref.ref(weights))
        raise BundleError("damaged")

    async def scenario() -> None:
        async with following() as site:
            site.shelf.change = break_off
            assert await site.publish(2) == "refused"
            assert site.core.holder.refusal is not None
            gc.collect()
            assert [reference() for reference in alive] == [None]

    run(scenario)


def test_a_version_that_cannot_be_served_is_not_pinned_either() -> None:
    async def scenario() -> None:
        async with following() as site:
            await site.publish(2)
            site.core.refresher.roll_back()
            site.shelf.faults[3] = BundleError("truncated")
            with pytest.raises(LoadFailedError, match="truncated; version 1 goes on answering"):
                await site.pin(3)
            with pytest.raises(UnknownVersionError):
                await site.pin(77)
            refresher = site.core.refresher
            assert (refresher.version, refresher.unreadable) == (None, None)
            assert (site.serving, site.core.holder.refusal) == (1, None)
            assert await site.look() == "unchanged", "what the rollback left stays left"
            assert await site.publish(4) == "swapped"

    run(scenario)


def test_a_pin_is_followed_by_nothing_until_it_is_taken_back() -> None:
    async def scenario() -> None:
        async with following() as site:
            await site.publish(2)
            assert await site.pin(1) == "swapped"
            assert site.shelf.loads == [1, 2], "the one before was still in memory"
            assert await site.publish(3) == "unchanged"
            assert (site.serving, site.core.refresher.follows) == (1, False)
            assert await site.pin(None) == "swapped"
            assert (site.serving, site.core.refresher.follows) == (3, True)

    run(scenario)


def test_looking_only_at_the_start_goes_on_until_there_is_a_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.core.refresh._FIRST_RETRY_S", 0.001)

    async def scenario() -> None:
        shelf = Shelf()
        shelf.gone = UnknownModelError("repository /models has no model 'fashion'")
        async with following(shelf, replace(OPTIONS, refresh_interval_s=0.0)) as site:
            assert site.core.holder.state == "refused"
            shelf.gone = None
            async with asyncio.timeout(20):
                while site.serving is None:  # noqa: ASYNC110 - the loader's thread
                    await asyncio.sleep(0.002)
            shelf.version = 2
            await asyncio.sleep(0.05)
            assert site.serving == 1
            assert not site.core.refresher.follows

    run(scenario)


def test_what_was_unloaded_stays_so_until_told_otherwise() -> None:
    async def scenario() -> None:
        async with following() as site:
            await site.core.models.unload("fashion", None)
            assert await site.publish(2) == "unchanged"
            with pytest.raises(ModelUnavailableError, match="models/fashion/load serves it again"):
                site.core.check_ready()
            assert await site.core.models.load("fashion", None) == "swapped"
            assert site.serving == 2

    run(scenario)
