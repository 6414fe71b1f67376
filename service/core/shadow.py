"""Compares shadow versions with those that answer.

Every rule is here, a sentence each; ``tests/service/core/test_shadow.py`` has a test for each.

    1. What callers are answered never comes from a shadow version, and never waits for one.
    2. A shadow runs only while no request is let in and unanswered, an image and 32 rows at a time.
    3. What waits to be compared is bounded in bytes; beyond, rows are dropped and counted.
    4. Rows are compared where both versions have the task with the same classes, and the same
       pixels for the same file.
    5. A shadow that fails, or answers what is not a number, harms nobody; it is counted.
    6. Nothing that waits keeps a version in memory.
    7. The totals are the present shadow's: another version begins anew.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from model.errors import TaskRouteError
from service.core.comparison import Comparison, Sample, compare
from service.core.errors import EngineDownError
from service.core.job import Pixels
from service.core.prediction import ImageAnswer, Prediction
from service.core.scheduler import Scheduler
from service.core.served import ServedModel
from service.core.telemetry import Telemetry

MOST_BYTES = 64 * 2**20
ROWS_AT_ONCE = 32


@dataclass
class ShadowTotals:
    """All comparisons with one shadow version."""

    version: int
    digest: str
    compared: int = 0
    flips: Counter[str] = field(default_factory=Counter)  # by task
    sum_difference: float = 0.0
    max_difference: float = 0.0
    failed: int = 0
    incomparable: int = 0
    dropped: int = 0

    def add(self, found: Comparison) -> None:
        self.compared += len(found.differences)
        self.flips.update(found.flips)
        self.sum_difference += float(found.differences.sum())
        self.max_difference = float(max(self.max_difference, *found.differences, 0.0))
        self.failed += found.failed
        self.incomparable += found.incomparable
        self.dropped += found.dropped


class ShadowComparison:
    """Takes what was answered and asks shadow versions the same, when the engine is idle.

    Event loop only.

    Args:
        shadow: the present shadow version of a model, by the model's name.
    """

    def __init__(
        self,
        shadow: Callable[[str], ServedModel | None],
        scheduler: Scheduler,
        telemetry: Telemetry,
    ) -> None:
        self._shadow = shadow
        self._scheduler = scheduler
        self._telemetry = telemetry
        self._samples: deque[Sample] = deque()
        self._bytes = 0
        self._offered = asyncio.Event()
        self._totals: dict[str, ShadowTotals] = {}

    def totals(self, name: str) -> ShadowTotals | None:
        """What is known of a model's present shadow; None before its first row."""
        shadow, found = self._shadow(name), self._totals.get(name)
        known = shadow is not None and found is not None and found.digest == shadow.digest
        return found if known else None

    def offer(self, prediction: Prediction, decoded: Sequence[Pixels | TaskRouteError]) -> None:
        """Keep what was answered, to be compared later; cheap where there is no shadow.

        Args:
            decoded: the pixels of each of the prediction's images, or why there are none.
        """
        model = prediction.model
        shadow = self._shadow(model.name)
        if shadow is None or shadow is model:
            return
        for answer, pixels in zip(prediction.images, decoded, strict=True):
            if isinstance(answer, ImageAnswer) and isinstance(pixels, np.ndarray):
                self._keep(_sample(prediction, answer, pixels), shadow)

    async def run(self) -> None:
        """Compare until cancelled."""
        self._offered = asyncio.Event()  # of this event loop
        if self._samples:
            self._offered.set()
        while True:
            await self._offered.wait()
            if not self._samples:
                self._offered.clear()
                continue
            sample = self._samples.popleft()
            self._bytes -= sample.bytes
            for start in range(0, len(sample.tasks), ROWS_AT_ONCE):
                await self._compare(sample.part(start, start + ROWS_AT_ONCE))

    def _keep(self, sample: Sample, shadow: ServedModel) -> None:
        if sample.preprocess_id != shadow.config.preprocess.id:
            self._count(sample, shadow, incomparable=len(sample.tasks))
        elif self._bytes + sample.bytes > MOST_BYTES:
            self._count(sample, shadow, dropped=len(sample.tasks))
        else:
            self._samples.append(sample)
            self._bytes += sample.bytes
            self._offered.set()

    async def _compare(self, sample: Sample) -> None:
        shadow = self._shadow(sample.model)
        if shadow is None or shadow.config.preprocess.id != sample.preprocess_id:
            return  # it was another one when the sample was taken
        call = self._scheduler.call_when_idle(partial(_compare, weakref.ref(shadow), sample))
        del shadow  # idleness may be long in coming
        try:
            found = await asyncio.wrap_future(call)
        except EngineDownError:
            return
        if found is not None:
            self._add(sample.model, found)

    def _count(
        self, sample: Sample, shadow: ServedModel, *, incomparable: int = 0, dropped: int = 0
    ) -> None:
        found = Comparison(shadow.version, shadow.digest)
        found.incomparable, found.dropped = incomparable, dropped
        self._add(sample.model, found)

    def _add(self, name: str, found: Comparison) -> None:
        totals = self._totals.get(name)
        if totals is None or totals.digest != found.digest:
            totals = self._totals[name] = ShadowTotals(found.version, found.digest)
        totals.add(found)
        self._telemetry.compared(name, found)


def _compare(shadow: weakref.ref[ServedModel], sample: Sample) -> Comparison | None:
    model = shadow()
    return None if model is None else compare(model, sample)


def _sample(prediction: Prediction, answer: ImageAnswer, pixels: Pixels) -> Sample:
    model = prediction.model
    rows = np.setdiff1d(np.arange(len(prediction.tasks)), list(answer.row_errors))
    return Sample(
        model.name,
        model.config.preprocess.id,
        pixels,
        tuple(model.tasks[task] for task in prediction.tasks[rows].tolist()),
        answer.probabilities[rows],
        answer.labels[rows],
    )
