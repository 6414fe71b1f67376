"""Times several ways side by side, so that a drifting machine hits all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Seconds per call: one figure for each round."""

    rounds: tuple[float, ...]

    @property
    def best(self) -> float:
        return min(self.rounds)

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


def side_by_side(
    ways: Mapping[str, Callable[[], object]],
    rounds: int = 5,
    seconds_per_round: float = 0.3,
    pause: float = 0.0,
) -> dict[str, Timing]:
    """Every way in turn, once a round, each for about ``seconds_per_round``; at least one call.

    ``pause``: seconds between two ways, for thread pools that go on spinning after a call and would
    take the processor from the next.
    """
    calls = {}
    for name, run in ways.items():
        time.sleep(pause)
        run()  # first call: allocations, lazily made weights, primitive caches
        start = time.perf_counter()
        run()
        calls[name] = max(1, int(seconds_per_round / (time.perf_counter() - start)))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            time.sleep(pause)
            run()  # wakes this way's threads up again
            start = time.perf_counter()
            for _ in range(calls[name]):
                run()
            seconds[name].append((time.perf_counter() - start) / calls[name])
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def ratio(slow: Timing, fast: Timing) -> float:
    """How many times faster ``fast`` is: the median over rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(slow.rounds, fast.rounds, strict=True))
