from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import ConfigError
from model.routes import kept_units
from model.sigma import SigmaReading, keep_from_sigma

SIGMAS = [0.0, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 1.0]


def units_of_published_code(sigma: float, units: int) -> int:
    """The authors' code zeroes ``int(units * sigma)`` units of every layer."""
    return units - int(units * sigma)


@pytest.mark.parametrize("sigma", SIGMAS[1:])
def test_the_paper_text_calls_the_share_that_is_kept_sigma(sigma: float) -> None:
    assert keep_from_sigma(sigma, "paper") == sigma


@pytest.mark.parametrize("sigma", SIGMAS[:-1])
@pytest.mark.parametrize("units", [64, 128, 256, 512])
def test_the_published_code_calls_the_share_that_is_zeroed_sigma(sigma: float, units: int) -> None:
    kept = kept_units(keep_from_sigma(sigma, "code"), units, 1)
    # The code rounds down what it zeroes, we round what is kept: one unit at most.
    assert abs(kept - units_of_published_code(sigma, units)) <= 1


def test_figures_of_the_published_code_at_64_units() -> None:
    assert [units_of_published_code(sigma, 64) for sigma in (0.2, 0.5, 0.8)] == [52, 32, 13]
    assert [kept_units(keep_from_sigma(s, "code"), 64, 1) for s in (0.2, 0.5, 0.8)] == [51, 32, 13]


def test_the_readings_agree_on_one_half_only() -> None:
    same = [s for s in SIGMAS[1:-1] if keep_from_sigma(s, "paper") == keep_from_sigma(s, "code")]
    assert same == [0.5]


def test_hard_sharing_under_both_readings() -> None:
    assert keep_from_sigma(1.0, "paper") == keep_from_sigma(0.0, "code") == 1.0


@given(st.integers(0, 99))
def test_a_decimal_sigma_gives_the_decimal_keep(hundredths: int) -> None:
    assert keep_from_sigma(hundredths / 100, "code") == (100 - hundredths) / 100


@pytest.mark.parametrize(("sigma", "reading"), [(0.0, "paper"), (1.0, "code")])
def test_a_sigma_that_keeps_nothing_is_refused(sigma: float, reading: SigmaReading) -> None:
    with pytest.raises(ConfigError, match=f"sigma = {sigma} read as '{reading}' keeps no unit"):
        keep_from_sigma(sigma, reading)


@pytest.mark.parametrize("sigma", [-0.1, 1.1, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("reading", ["paper", "code"])
def test_a_sigma_outside_its_range_is_refused(sigma: float, reading: SigmaReading) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        keep_from_sigma(sigma, reading)
