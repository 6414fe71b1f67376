"""``auto`` measured again: run by run between batches, while requests are answered."""

from __future__ import annotations

import asyncio
from functools import partial

from model.auto_forward import AutoForward
from service.core.errors import StrategyFixedError
from service.core.scheduler import Scheduler
from service.core.served import ServedModel


async def measure_again(model: ServedModel, scheduler: Scheduler) -> str:
    """Time the strategies on the engine thread; the fastest runs the batches that follow.

    A request waits for one run at most, like for the batch before it.

    Returns:
        the strategy until now.

    Raises:
        StrategyFixedError: a setting says which strategy runs.
        EngineDownError: the engine ended; nothing has changed.
    """
    forward = model.forward
    if not isinstance(forward, AutoForward):
        raise StrategyFixedError(
            f"version {model.version} of model {model.name!r} runs {model.strategy!r}, and nothing "
            "is chosen by measuring: set strategy to auto for that (TASKROUTE_STRATEGY)",
            strategy=model.strategy,
        )
    before, runs = forward.name, forward.measure()
    over = object()
    while await asyncio.wrap_future(scheduler.call(partial(next, runs, over))) is not over:
        pass
    measured = forward.measured
    scheduler.learn(model, measured.rows, measured.seconds[forward.name])
    return before
