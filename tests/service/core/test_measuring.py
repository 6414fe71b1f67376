"""The strategies are timed between batches, and requests are answered meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import torch

from model.auto_forward import AutoForward
from model.rows import RowBatch
from service.core.engine import Call, Run
from service.core.errors import EngineDownError, StrategyFixedError
from service.core.measuring import measure_again
from service.core.served import ServedModel
from tests.service.fakes import Bench, FakeForward

SAMPLE = RowBatch.all_pairs(torch.zeros(1, 28, 28, 3, dtype=torch.uint8), range(4))


def measured_model(bench: Bench, **seconds: float) -> tuple[ServedModel, dict[str, FakeForward]]:
    """A model that chooses between forwards that take so long for a batch."""
    forwards = {}
    for name, taken in seconds.items():
        forwards[name] = FakeForward(bench.model.config, bench.clock)
        forwards[name].name = name
        forwards[name].seconds_per_batch = taken
    forward = AutoForward(list(forwards.values()), SAMPLE, lambda _: True, clock=bench.clock.now)
    return replace(bench.model, forward=forward), forwards


def test_a_request_is_answered_between_two_runs_and_the_new_choice_runs_the_next() -> None:
    async def scenario() -> None:
        bench = Bench()
        model, forwards = measured_model(bench, first=1.0, second=2.0)
        assert model.strategy == "first"
        forwards["first"].seconds_per_batch = 5.0
        measuring = asyncio.create_task(measure_again(model, bench.scheduler))
        actions, jobs = [], []
        while not measuring.done():
            actions.append(bench.step())
            if len(actions) == 2:
                jobs.append(bench.ask(model=model, timeout=100.0))
            await asyncio.sleep(0)
        assert [action.release for action in actions if isinstance(action, Run)]
        assert sum(isinstance(action, Call) for action in actions) == 7, "6 runs and the end"
        assert bench.done == jobs
        assert jobs[0].failure is None
        assert len(forwards["first"].batches) == 3 + 3 + 1
        assert await measuring == "first"
        assert model.strategy == "second"
        assert model.measured is not None
        assert model.measured.seconds == {"first": 5.0, "second": 2.0}
        assert "second" in bench.scheduler.costs(model)
        bench.ask(model=model, timeout=100.0)
        bench.run_all()
        assert len(forwards["second"].batches) == 3 + 3 + 1

    asyncio.run(scenario())


def test_a_strategy_that_a_setting_names_is_not_measured() -> None:
    bench = Bench()
    with pytest.raises(StrategyFixedError, match="TASKROUTE_STRATEGY") as caught:
        asyncio.run(measure_again(bench.model, bench.scheduler))
    assert caught.value.details == {"strategy": "fake"}


def test_an_engine_that_is_lost_changes_nothing() -> None:
    async def scenario() -> None:
        bench = Bench()
        model, forwards = measured_model(bench, first=1.0, second=2.0)
        before = model.measured
        forwards["first"].seconds_per_batch = 5.0
        bench.scheduler.engine_lost("it is gone")
        with pytest.raises(EngineDownError):
            await measure_again(model, bench.scheduler)
        assert (model.strategy, model.measured) == ("first", before)

    asyncio.run(scenario())
