"""Watches the engine, so that nobody waits for one that is dead or hangs."""

from __future__ import annotations

import asyncio
import math

from service.core.clock import Clock
from service.core.engine import Engine
from service.core.heartbeat import Heartbeat
from service.core.scheduler import Scheduler

_INTERVAL_S = 0.25
# Batches are kept short by what was measured. A call may run something for the first time, with all
# that this costs: minutes, where the container is starved of CPU. A restart would only begin it
# again.
CALL_PATIENCE = 10


class Watchdog:
    """Compares the engine's heartbeat with the clock; also ends a drain whose time is over."""

    def __init__(
        self,
        engine: Engine,
        scheduler: Scheduler,
        heartbeat: Heartbeat,
        clock: Clock,
        stall_s: float,
    ) -> None:
        self._engine = engine
        self._scheduler = scheduler
        self._heartbeat = heartbeat
        self._clock = clock
        self._stall_s = stall_s
        self._drain_until = math.inf

    def check(self) -> str | None:
        """Why the engine cannot answer, None if it can; tells the scheduler when that changes."""
        if self._clock.now() >= self._drain_until:
            self._scheduler.end_drain()
            self._drain_until = math.inf
        if not self._engine.alive:
            self._scheduler.engine_lost("the engine thread is not running")
        elif (silent := self._heartbeat.age()) > self._stall_s:
            self._scheduler.engine_hangs(
                f"the engine thread has been silent for {silent:.1f} s; "
                f"it counts as hung after {self._stall_s:.1f} s (engine_stall_ms)"
            )
        elif self._scheduler.engine_down:
            self._scheduler.engine_back()
        return self._scheduler.engine_down

    def lost(self) -> str | None:
        """Why only a restart of the process helps, None if that is not known."""
        reason = self.check()
        patience = CALL_PATIENCE if self._heartbeat.in_call else 1
        moving = self._heartbeat.age() <= patience * self._stall_s
        return None if self._engine.alive and moving else reason

    def drain(self, seconds: float) -> None:
        """Let the scheduler drain, for at most so long."""
        self._drain_until = self._clock.now() + seconds
        self._scheduler.drain()

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            self.check()
            await asyncio.sleep(_INTERVAL_S)
