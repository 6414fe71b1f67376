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
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import dataclass
from typing import Literal

from model.errors import BundleError, ConfigError, TaskRouteError
from model.repository import Published
from service.core.background import in_background
from service.core.clock import Clock
from service.core.errors import ServiceError
from service.core.holder import ModelHolder
from service.core.scheduler import Scheduler
from service.core.served import ServedModel
from service.core.source import ModelSource
from service.core.telemetry import Telemetry
from service.core.warm_up import warm_up

logger = logging.getLogger(__name__)

Outcome = Literal["unchanged", "swapped", "refused", "unreadable"]

_LONGEST_RETRY_S = 300.0


@dataclass(frozen=True)
class RefreshOptions:
    """How a repository is followed."""

    interval_s: float = 0.0  # between looks; 0: one look, at the start
    pinned: bool = False  # one version only
    warmup_s: float = 2.0
    max_rows: int = 256  # of a warm-up batch
    max_batch_s: float = 0.2  # longest warm-up batch while another version answers requests


class Refresher:
    """Looks at a source, and swaps the holder's model for what is published there.

    Event loop only. Looks never overlap, whoever asks for them.
    """

    def __init__(
        self,
        source: ModelSource,
        holder: ModelHolder,
        scheduler: Scheduler,
        telemetry: Telemetry,
        clock: Clock,
        options: RefreshOptions,
    ) -> None:
        self.options = options
        self.read_at: float | None = None  # seconds since the epoch: the last look that succeeded
        self.unreadable: str | None = None  # why the last look failed, None if it did not
        self._source = source
        self._holder = holder
        self._scheduler = scheduler
        self._telemetry = telemetry
        self._clock = clock
        self._looking = asyncio.Lock()
        self._refused: Published | None = None
        self._left: tuple[int, str] | None = None  # what was rolled back
        self._failures = 0  # in a row, for passing reasons
        self._retry_at = math.inf  # clock seconds, for the refused one

    @property
    def follows(self) -> bool:
        """Whether a version published from now on will be served."""
        return self.options.interval_s > 0 and not self.options.pinned

    async def run(self) -> None:
        """Look at once, then every interval, until cancelled."""
        while True:
            await self.look()
            if self.options.interval_s <= 0:
                return
            await asyncio.sleep(self.options.interval_s)

    async def look(self, *, again: bool = False) -> Outcome:
        """Take what is published, if it is not what is served.

        Args:
            again: also what was refused, or left by a rollback.
        """
        async with self._looking:
            if self._scheduler.draining:
                return "unchanged"
            if again:
                self._refused, self._left = None, None
            elif self.options.pinned and self._holder.model is not None:
                return "unchanged"
            published = await self._published()
            return "unreadable" if published is None else await self._take(published)

    def roll_back(self) -> ServedModel:
        """Let the version before answer again, at once.

        Raises:
            NoPreviousModelError: none is kept.
        """
        back, left = self._holder.roll_back()
        self._left = (left.version, left.digest)
        self._telemetry.model_rolled_back(back)
        logger.warning(
            "rolled back from version %d to version %d of model %r: version %d is not taken again "
            "until LATEST has named another one",
            left.version, back.version, self._holder.name, left.version,
        )  # fmt: skip
        return back

    async def _published(self) -> Published | None:
        try:
            published = await in_background(self._source.published)
        except Exception as error:
            self._cannot_read(_as_ours(error, "looking into the repository"))
            return None
        if self.unreadable is not None:
            logger.info("the repository can be read again")
        self.read_at, self.unreadable = time.time(), None
        return published

    def _cannot_read(self, error: TaskRouteError) -> None:
        if error.message != self.unreadable:  # once, not at every look
            serving = self._holder.model
            logger.error(
                "cannot look for new versions of model %r: %s; %s",
                self._holder.name,
                error.message,
                f"version {serving.version} goes on answering" if serving else "none is served",
            )
        self.unreadable = error.message
        if self._holder.model is None:
            self._holder.refuse(error)

    async def _take(self, published: Published) -> Outcome:
        serving, previous = self._holder.model, self._holder.previous
        wanted = (published.version, published.digest)
        if wanted != self._left:
            self._left = None
        if serving is not None and wanted == (serving.version, serving.digest):
            self._refused, self._holder.refusal = None, None  # what was refused is called off
            return "unchanged"
        if wanted == self._left:
            return "unchanged"
        if published == self._refused and self._clock.now() < self._retry_at:
            return "refused"
        if previous is not None and wanted == (previous.version, previous.digest):
            self._swap(previous)
            return "swapped"
        return await self._load(published)

    async def _load(self, published: Published) -> Outcome:
        serving = self._holder.model
        options = self.options
        try:
            model = await in_background(lambda: self._source.load(published))
            await warm_up(
                model, self._scheduler, self._clock, options.warmup_s, options.max_rows,
                None if serving is None else options.max_batch_s,
            )  # fmt: skip
        except Exception as error:
            self._refuse(published, error)
            return "refused"
        self._telemetry.model_loaded(model)
        self._swap(model)
        return "swapped"

    def _swap(self, model: ServedModel) -> None:
        self._holder.serve(model)
        self._refused = None
        self._telemetry.model_serves(model)
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
        ours, before = _as_ours(error, "loading"), self._holder.refusal
        self._holder.refuse(ours)
        if known and before is not None and before.message == ours.message:
            return
        logger.error(
            "version %d of model %r is refused: %s (it is tried again %s)",
            published.version,
            self._holder.name,
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
