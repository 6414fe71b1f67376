"""When a service counts as recovered, and whether its memory grew."""

from __future__ import annotations

import pytest

from benchmarks.overload import Probes
from benchmarks.samples import Sample
from benchmarks.soak import different_sizes, growth


def test_recovery_is_the_first_probe_from_which_all_are_fast() -> None:
    def probe(at: float, taken_ms: float, status: int = 200) -> Sample:
        return Sample(at, at, at + taken_ms / 1000, 1, status)

    slow_start = [probe(0.0, 90), probe(0.1, 5), probe(0.2, 5, 429), probe(0.3, 5), probe(0.4, 6)]
    assert Probes(slow_start).recovered_after_s(limit_ms=10) == 0.3
    assert Probes(slow_start[3:]).recovered_after_s(limit_ms=10) == 0.3
    assert Probes([probe(0.0, 90)]).recovered_after_s(limit_ms=10) is None


def test_soak_sizes_differ_and_growth_compares_the_ends() -> None:
    assert len(set(different_sizes(1000))) == 1000
    assert growth([100.0] * 20 + [150.0] * 10 + [110.0] * 10) == pytest.approx(0.1)
