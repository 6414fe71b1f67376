"""``auto``: the strategy that measures fastest on this machine for this model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from model.forward import Computing, Forward, nobody_waits
from model.rows import RowBatch

_RUNS = 2  # after a first one, which pays for what comes once
_HOPELESS = 3.0  # times the best so far: not run again


@dataclass(frozen=True)
class Measurement:
    """What was measured, and when."""

    at: float  # seconds since the epoch
    rows: int  # in the sample
    images: int
    seconds: Mapping[str, float]  # by strategy, for the sample; the first run's if it was hopeless


class AutoForward:
    """Whichever of several forwards answers a sample batch soonest.

    Measured when made and by :meth:`measure`. Belongs to the thread that runs it, but for ``name``,
    ``kernels`` and ``measured``, which may be read from anywhere.

    Args:
        forwards: the usual winner first: a slow one is then given up after a single run.
        acceptable: whether a forward other than the one in use (first of all ``forwards[0]``) may
            take its place.
        clock: seconds, to time runs by.
        now: seconds since the epoch.
    """

    measured: Measurement

    def __init__(
        self,
        forwards: Sequence[Forward],
        sample: RowBatch,
        acceptable: Callable[[Forward], bool],
        clock: Callable[[], float] = time.perf_counter,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._forwards, self._sample, self._acceptable = forwards, sample, acceptable
        self._clock, self._now = clock, now
        self._chosen = forwards[0]
        for _ in self.measure():
            pass

    @property
    def name(self) -> str:
        """The strategy in use."""
        return self._chosen.name

    @property
    def kernels(self) -> str:
        """What runs its convolutions."""
        return self._chosen.kernels

    def __call__(self, batch: RowBatch, computing: Computing = nobody_waits) -> Tensor:
        """Logits float32 [R, max_outputs] on the CPU, -inf beyond a task's outputs."""
        return self._chosen(batch, computing)

    def close(self) -> None:
        """Stop what threads the forwards have; they are started again when needed."""
        for forward in self._forwards:
            forward.close()

    def measure(self) -> Iterator[None]:
        """Time all forwards and take the best of those that are acceptable.

        Each step is one run, so that other batches may be run between two; the last one changes
        :attr:`name`. Given up half-way, or after an error, it changes nothing.
        """
        seconds: dict[str, float] = {}
        for forward in self._forwards:
            first = self._run(forward)
            yield
            if first > _HOPELESS * min(seconds.values(), default=math.inf):
                seconds[forward.name] = first
                continue
            runs = []
            for _ in range(_RUNS):
                runs.append(self._run(forward))
                yield
            seconds[forward.name] = min(runs)
        fastest_first = sorted(self._forwards, key=lambda forward: seconds[forward.name])
        self._chosen = next(
            forward
            for forward in fastest_first
            if forward is self._chosen or self._acceptable(forward)
        )
        self.measured = Measurement(
            self._now(), len(self._sample), len(self._sample.images), seconds
        )

    def _run(self, forward: Forward) -> float:
        start = self._clock()
        forward(self._sample)
        return self._clock() - start
