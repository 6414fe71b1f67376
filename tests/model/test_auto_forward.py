"""The fastest is taken, and taken again when it is another one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from model.auto_forward import AutoForward
from model.forward import Computing, Forward, nobody_waits
from model.rows import RowBatch

SAMPLE = RowBatch.all_pairs(torch.zeros(2, 4, 4, 3, dtype=torch.uint8), range(3))


class Timed:
    """A forward that takes as long as it is told to."""

    kernels = "pytorch"

    def __init__(self, name: str, now: list[float], *seconds: float) -> None:
        self.name = name
        self.left = list(seconds)
        self.closed = False
        self._now = now

    def __call__(self, batch: RowBatch, computing: Computing = nobody_waits) -> Tensor:
        self._now[0] += self.left.pop(0)
        return torch.full((len(batch), 1), float(len(self.name)))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def now() -> list[float]:
    return [0.0]


def auto(
    now: list[float], *forwards: Timed, acceptable: Callable[[Forward], bool] = lambda _: True
) -> AutoForward:
    return AutoForward(forwards, SAMPLE, acceptable, clock=lambda: now[0], now=lambda: 1.8e9)


def test_the_better_of_two_runs_after_a_first_one_counts(now: list[float]) -> None:
    steady, late = Timed("steady", now, 2, 2, 2), Timed("late", now, 5, 3, 1)
    found = auto(now, steady, late)
    assert found.name == "late"


def test_a_hopeless_one_is_run_once_only(now: list[float]) -> None:
    good, hopeless = Timed("good", now, 1, 1, 1), Timed("hopeless", now, 3.5)
    found = auto(now, good, hopeless)
    assert (found.name, hopeless.left) == ("good", [])
    assert found.measured.seconds == {"good": 1, "hopeless": 3.5}


def test_it_says_what_was_measured_and_when(now: list[float]) -> None:
    measured = auto(now, Timed("one", now, 9, 2, 3)).measured
    assert (measured.at, measured.rows, measured.images) == (1.8e9, 6, 2)
    assert measured.seconds == {"one": 2}


def test_measured_again_it_takes_what_is_the_fastest_by_then(now: list[float]) -> None:
    a, b = Timed("a", now, 1, 1, 1), Timed("b", now, 2, 2, 2)
    found = auto(now, a, b)
    assert found.name == "a"
    a.left, b.left = [4, 4, 4], [2, 2, 2, 2]
    names = [found.name for _ in found.measure()]
    assert names == ["a"] * 6, "not before the end"
    assert (found.name, found.measured.seconds) == ("b", {"a": 4, "b": 2})
    assert len(found(SAMPLE)) == 6
    assert b.left == []


def test_given_up_or_failed_it_changes_nothing(now: list[float]) -> None:
    a, b = Timed("a", now, 1, 1, 1), Timed("b", now, 2, 2, 2)
    found = auto(now, a, b)
    before = found.measured
    a.left, b.left = [4, 4, 4], [2]
    with pytest.raises(IndexError):
        list(found.measure())
    assert (found.name, found.measured) == ("a", before)


def test_what_is_not_acceptable_is_not_taken_however_fast(now: list[float]) -> None:
    a, b, c = (Timed(name, now, *[seconds] * 3) for name, seconds in (("a", 3), ("b", 2), ("c", 1)))
    assert auto(now, a, b, c, acceptable=lambda forward: forward.name == "b").name == "b"
    a.left, b.left, c.left = [3] * 3, [2] * 3, [1] * 3
    assert auto(now, a, b, c, acceptable=lambda _: False).name == "a"


def test_all_are_closed(now: list[float]) -> None:
    a, b = Timed("a", now, 1, 1, 1), Timed("b", now, 2, 2, 2)
    auto(now, a, b).close()
    assert a.closed
    assert b.closed
