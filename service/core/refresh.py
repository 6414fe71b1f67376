"""Follows the repository: loads what is published beside what is served, then swaps.

Every rule is here, a sentence each; ``tests/service/core/test_refresh.py`` has a test for each.

    1. A new version is read and checked on a background thread and warmed up between batches: the
       event loop and the requests go on meanwhile.
    2. The swap is one assignment on the event loop: a request is answered by the version that it
       began with, and by no other.
    3. What cannot be served is refused, once; it is tried again only when LATEST or a file of it
       has changed, or when told to.
    4. What failed for a passing reason (memory, an unreadable disk) is tried again, ever more
       rarely.
    5. While the repository cannot be read the service goes on with what it has, and says so.
    6. After a rollback the version that was left is not taken again until LATEST has named another
       one, or when told to.
    7. A pinned version is looked for until it is served, then nothing is followed.
    8. A version that is neither served nor kept for rollback is gone from memory.
    9. A version that cannot be served is not pinned either: that changes nothing.
    10. A version that is in memory for another purpose is not loaded again.
    11. One version is loaded at a time, whatever model it is of.
    12. Where the repository is looked into only at the start, that goes on until there is a model.
    13. What was unloaded stays so until told otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, NoReturn

from model.errors import (
    BundleError,
    ConfigError,
    TaskRouteError,
    UnknownModelError,
    UnknownVersionError,
)
from model.repository import Published
from service.core.background import in_background
from service.core.clock import Clock
from service.core.errors import LoadFailedError, ServiceError
from service.core.holder import ModelHolder
from service.core.scheduler import Scheduler
from service.core.served import ServedModel
from service.core.source import ModelSource
from service.core.telemetry import Telemetry
from service.core.warm_up import warm_up

logger = logging.getLogger(__name__)

Outcome = Literal["unchanged", "swapped", "refused", "unreadable"]

_FIRST_RETRY_S = 1.0
_LONGEST_RETRY_S = 300.0


@dataclass(frozen=True)
class RefreshOptions:
    """How a repository is followed."""

    interval_s: float = 0.0  # between looks; 0: none once a model is served
    warmup_s: float = 2.0
    max_rows: int = 256  # of a warm-up batch
    max_batch_s: float = 0.2  # longest warm-up batch while another version answers requests


class Refresher:
    """Looks at a source, and swaps the holder's model for what is published there.

    Event loop only. Looks never overlap, whoever asks for them.

    Args:
        version: to serve; None: the one that LATEST names.
        loaded: versions in memory that may be taken instead of loading them again.
        answering: whether anything answers requests that a warm-up might hold up.
        turn: held while a model is loaded: who shares it load one after the other.
    """

    def __init__(
        self,
        source: ModelSource,
        holder: ModelHolder,
        scheduler: Scheduler,
        telemetry: Telemetry,
        clock: Clock,
        options: RefreshOptions,
        *,
        version: int | None,
        loaded: Callable[[], Iterable[ServedModel]],
        answering: Callable[[], bool],
        turn: asyncio.Lock,
    ) -> None:
        self.options = options
        self.holder = holder
        self.version = version
        self.read_at: float | None = None  # seconds since the epoch: the last look that succeeded
        self.unreadable: str | None = None  # why the last look failed, None if it did not
        self._source = source
        self._scheduler = scheduler
        self._telemetry = telemetry
        self._clock = clock
        self._loaded = loaded
        self._answering = answering
        self._turn = turn
        self._looking = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._failure: TaskRouteError | None = None  # of the last look
        self._refused: Published | None = None
        self._left: tuple[int, str] | None = None  # what was rolled back
        self._failures = 0  # in a row, for passing reasons
        self._retry_at = math.inf  # clock seconds, for the refused one

    @property
    def follows(self) -> bool:
        """Whether a version published from now on will be served."""
        return self.options.interval_s > 0 and self.version is None

    def start(self) -> None:
        """Look at once, then every interval, until :meth:`stop`."""
        self._task = asyncio.create_task(self._run(), name=f"refresh {self.holder.name}")

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def look(self, *, again: bool = False) -> Outcome:
        """Take what is published, if it is not what is served.

        Args:
            again: also what was refused, or left by a rollback.
        """
        async with self._looking:
            return await self._look(again=again)

    async def look_or_raise(self) -> Outcome:
        """Take what is published, refused before or not.

        Raises:
            UnknownModelError, UnknownVersionError: it is not there.
            LoadFailedError: it cannot be read or served.
        """
        async with self._looking:
            outcome = await self._look(again=True)
            if outcome in ("refused", "unreadable"):
                self._raise(outcome)
            return outcome

    async def pin(self, version: int | None) -> Outcome:
        """Serve ``version`` from now on; None: whatever LATEST names.

        Raises:
            UnknownVersionError: there is no such version; nothing has changed.
            LoadFailedError: it cannot be read or served; nothing has changed.
        """
        async with self._looking:
            before = self.version, self.unreadable, self.holder.refusal, self._refused, self._left
            self.version = version
            outcome = await self._look(again=True)
            if outcome in ("refused", "unreadable"):
                self.version, self.unreadable, self.holder.refusal, self._refused, self._left = (
                    before
                )
                self._raise(outcome)
            return outcome

    async def unload(self) -> None:
        """Let nothing answer any more, until told to look again."""
        async with self._looking:
            self.holder.unload()

    def roll_back(self) -> ServedModel:
        """Let the version before answer again, at once.

        Raises:
            NoPreviousModelError: none is kept.
        """
        back, left = self.holder.roll_back()
        self._left = (left.version, left.digest)
        self._telemetry.model_rolled_back(back)
        logger.warning(
            "rolled back from version %d to version %d of model %r: version %d is not taken again "
            "until LATEST has named another one",
            left.version, back.version, self.holder.name, left.version,
        )  # fmt: skip
        return back

    async def _run(self) -> None:
        retry_s = _FIRST_RETRY_S
        while True:
            await self.look()
            if self.options.interval_s > 0:
                await asyncio.sleep(self.options.interval_s)
            elif self.holder.state in ("loading", "refused"):
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, _LONGEST_RETRY_S)
            else:
                return

    async def _look(self, *, again: bool) -> Outcome:
        if self._scheduler.draining:
            return "unchanged"
        if again:
            self._refused, self._left = None, None
        elif self.holder.unloaded or (self.version is not None and self.holder.model is not None):
            return "unchanged"
        published = await self._published()
        return "unreadable" if published is None else await self._take(published)

    def _raise(self, outcome: Outcome) -> NoReturn:
        failure = self._failure
        assert failure is not None, outcome  # noqa: S101 - an invariant, for mypy
        if isinstance(failure, (UnknownModelError, UnknownVersionError)):
            raise failure
        model = self.holder.model
        now = (
            "no version is served"
            if model is None
            else f"version {model.version} goes on answering"
        )
        raise LoadFailedError(f"{failure.message}; {now}", outcome=outcome)

    async def _published(self) -> Published | None:
        version = self.version
        try:
            published = await in_background(lambda: self._source.published(version))
        except Exception as error:
            self._cannot_read(_as_ours(error, "looking into the repository"))
            return None
        if self.unreadable is not None:
            logger.info("the repository can be read again")
        self.read_at, self.unreadable = time.time(), None
        return published

    def _cannot_read(self, error: TaskRouteError) -> None:
        self._failure = error
        if error.message != self.unreadable:  # once, not at every look
            serving = self.holder.model
            logger.error(
                "cannot look for new versions of model %r: %s; %s",
                self.holder.name,
                error.message,
                f"version {serving.version} goes on answering" if serving else "none is served",
            )
        self.unreadable = error.message
        if self.holder.model is None:
            self.holder.refuse(error)

    async def _take(self, published: Published) -> Outcome:
        serving = self.holder.model
        wanted = (published.version, published.digest)
        if wanted != self._left:
            self._left = None
        if serving is not None and wanted == (serving.version, serving.digest):
            self._refused, self.holder.refusal = None, None  # what was refused is called off
            return "unchanged"
        if wanted == self._left:
            return "unchanged"
        if published == self._refused and self._clock.now() < self._retry_at:
            return "refused"
        async with self._turn:
            for model in self._loaded():
                if wanted == (model.version, model.digest):
                    self._swap(model)
                    return "swapped"
            return await self._load(published)

    async def _load(self, published: Published) -> Outcome:
        options = self.options
        try:
            model = await in_background(lambda: self._source.load(published))
            await warm_up(
                model, self._scheduler, self._clock, options.warmup_s, options.max_rows,
                options.max_batch_s if self._answering() else None,
            )  # fmt: skip
        except Exception as error:
            self._refuse(published, error)
            return "refused"
        self._telemetry.model_loaded(model)
        self._swap(model)
        return "swapped"

    def _swap(self, model: ServedModel) -> None:
        self.holder.serve(model)
        self._refused = None
        fields = {
            "model": model.name,
            "version": model.version,
            "bundle": model.digest,
            "tasks": len(model.tasks),
            "strategy": model.strategy,
            "load_seconds": round(model.load_seconds, 3),
        }
        logger.info("model is ready", extra={"fields": fields})

    def _refuse(self, published: Published, error: Exception) -> None:
        known = published == self._refused
        wait = math.inf
        if not _is_lasting(error):
            self._failures = self._failures + 1 if known else 1
            wait = min(_LONGEST_RETRY_S, self.options.interval_s * 2 ** min(self._failures - 1, 20))
        self._refused, self._retry_at = published, self._clock.now() + wait
        ours, before = _as_ours(error, "loading"), self.holder.refusal
        self._failure = ours
        self.holder.refuse(ours)
        if known and before is not None and before.message == ours.message:
            return
        logger.error(
            "version %d of model %r is refused: %s (it is tried again %s)",
            published.version,
            self.holder.name,
            ours.message,
            "when LATEST or one of its files changes" if wait == math.inf else f"in {wait:.0f} s",
        )
        self._telemetry.model_refused()


def _is_lasting(error: Exception) -> bool:
    """Whether the same files would be refused again."""
    if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, FileNotFoundError):
        return False
    return isinstance(error, (BundleError, ConfigError))


def _as_ours(error: Exception, doing: str) -> TaskRouteError:
    """``error`` with what a person needs, and without its traceback.

    That would keep every tensor of a refused bundle alive for as long as the reason is remembered.
    """
    if not isinstance(error, TaskRouteError):
        logger.error("%s failed unexpectedly", doing, exc_info=error)
        kind = type(error).__name__
        return ServiceError(f"{doing} failed unexpectedly ({kind}); the log has the traceback")
    kept = error.with_traceback(None)
    kept.__cause__ = kept.__context__ = None
    return kept
