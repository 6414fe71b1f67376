"""The core put together: what a protocol needs to serve a model, started and stopped in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from model.preprocess import ImageLimits
from service.core.batch_runner import BatchRunner
from service.core.clock import Clock
from service.core.decoder import Decoder
from service.core.engine import Engine
from service.core.errors import DrainingError, EngineDownError
from service.core.free_memory import FreeMemory, heap_trimmer, resident_bytes
from service.core.heartbeat import Heartbeat
from service.core.holder import ModelHolder
from service.core.limits import SchedulerLimits
from service.core.models import Models
from service.core.plan import ModelPlan
from service.core.predictor import Predictor
from service.core.refresh import Refresher, RefreshOptions
from service.core.response_cache import ResponseCache
from service.core.scheduler import Scheduler
from service.core.shadow import ShadowComparison
from service.core.source import ModelSources
from service.core.telemetry import Telemetry
from service.core.watchdog import Watchdog

logger = logging.getLogger(__name__)

_POLL_S = 0.02
_JOIN_S = 2.0


@dataclass(frozen=True)
class CoreOptions:
    """What the core can be told."""

    models: tuple[ModelPlan, ...]  # the first answers where a request names none
    decode_threads: int = 1
    warmup_s: float = 2.0
    refresh_interval_s: float = 0.0  # 0: each model is loaded once
    keep_previous: bool = True  # in memory, to roll back to
    max_versions: int = 8  # in memory, besides those to roll back to
    drain_s: float = 20.0
    cache_bytes: int = 0  # of remembered answers; 0: none are
    scheduler: SchedulerLimits = field(default_factory=SchedulerLimits)
    images: ImageLimits = field(default_factory=ImageLimits)


class ServingCore:
    """Scheduler, engine, decoder, models and predictor of one process.

    Made anywhere; :meth:`start` binds it to the running event loop. Protocols use ``models`` and
    ``predictor``, operators the rest.
    """

    def __init__(
        self,
        options: CoreOptions,
        sources: ModelSources,
        telemetry: Telemetry,
        clock: Clock,
    ) -> None:
        self._options = options
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.clock = clock
        self.scheduler = Scheduler(options.scheduler, clock, telemetry, self._post)
        self.heartbeat = Heartbeat(clock)
        runner = BatchRunner(clock, self.scheduler.row_limit, self.heartbeat)
        self.engine = Engine(self.scheduler, runner, self.heartbeat)
        self.watchdog = Watchdog(
            self.engine, self.scheduler, self.heartbeat, clock, options.scheduler.engine_stall_s
        )
        self.decoder = Decoder(options.decode_threads, options.images, clock)
        self.cache = ResponseCache(options.cache_bytes) if options.cache_bytes else None
        self.models = Models(
            options.models,
            sources,
            self.scheduler,
            telemetry,
            clock,
            RefreshOptions(
                interval_s=options.refresh_interval_s,
                warmup_s=options.warmup_s,
                max_rows=options.scheduler.max_batch_rows,
                max_batch_s=options.scheduler.max_batch_duration_s,
            ),
            keep_previous=options.keep_previous,
            max_versions=options.max_versions,
        )
        self.shadows = ShadowComparison(self.models.shadow, self.scheduler, telemetry)
        self.predictor = Predictor(
            self.scheduler, self.decoder, clock, telemetry, self.cache, self.shadows
        )

    @property
    def holder(self) -> ModelHolder:
        """The default model's."""
        return self.refresher.holder

    @property
    def refresher(self) -> Refresher:
        """Of the default model's stable version."""
        return self.models.default.stable

    async def start(self) -> None:
        """Start the engine and begin to load; returns before any model is ready."""
        self._loop = asyncio.get_running_loop()
        self.engine.start()
        self._run_beside(self.watchdog.run(), "watchdog")
        self._run_beside(self.shadows.run(), "shadows")
        if (trim := heap_trimmer()) is not None:
            free = FreeMemory(self.scheduler, trim, resident_bytes)
            self._run_beside(free.run(), "free memory")
        self.models.start()

    def begin_drain(self) -> None:
        """Refuse new requests; those let in have ``drain_s`` seconds."""
        if not self.scheduler.draining:
            self.watchdog.drain(self._options.drain_s)

    async def stop(self) -> None:
        """Drain, then end the engine, the pool and the background tasks."""
        self.begin_drain()
        while self.scheduler.unanswered_requests:  # noqa: ASYNC110 - the watchdog bounds this
            await asyncio.sleep(_POLL_S)
        await self.models.stop()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.scheduler.close()
        await asyncio.to_thread(self.engine.join, _JOIN_S)
        self.decoder.close()

    def not_live(self) -> EngineDownError | None:
        """Why the process should be restarted; None while it is sound, with or without a model."""
        return _engine_down(self.watchdog.lost())

    def check_ready(self) -> None:
        """Raise the TryLaterError for which requests are better sent elsewhere, if any."""
        self.check_running()
        self.models.check_ready()

    def check_running(self) -> None:
        """Raise the TryLaterError that a request for any model would get now, if any."""
        if error := _engine_down(self.watchdog.check()):
            raise error
        if self.scheduler.draining:
            raise DrainingError("the server is shutting down", retry_after_s=1)

    def _run_beside(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(_tell_if_it_died)
        self._tasks.append(task)

    def _post(self, function: Callable[..., Any], *arguments: Any) -> None:
        assert self._loop is not None, "start() comes first"  # noqa: S101 - an invariant, for mypy
        self._loop.call_soon_threadsafe(function, *arguments)


def _tell_if_it_died(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        logger.critical("%r ended: restart the process", task.get_name(), exc_info=task.exception())


def _engine_down(reason: str | None) -> EngineDownError | None:
    return None if reason is None else EngineDownError(reason, retry_after_s=5)
