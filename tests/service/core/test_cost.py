"""The cost model finds the line behind batches; waiting pays only when it should."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.cost import Arrivals, CostModel, pays_to_wait


def fitted(fixed: float, per_row: float) -> CostModel:
    cost = CostModel()
    for rows in (1, 2, 4, 8, 16, 32):
        cost.observe(rows, fixed + per_row * rows)
    return cost


@given(
    fixed=st.floats(0.0001, 1.0),
    per_row=st.floats(0.00001, 0.1),
    sizes=st.lists(st.integers(1, 512), min_size=5, max_size=60),
)
def test_an_exact_line_is_found(fixed: float, per_row: float, sizes: list[int]) -> None:
    cost = CostModel()
    for rows in [*sizes, 1, 64, 256]:
        cost.observe(rows, fixed + per_row * rows)
    assert cost.predict(100) == pytest.approx(fixed + per_row * 100, rel=1e-3)


def test_it_follows_a_machine_that_becomes_slower() -> None:
    cost = fitted(0.01, 0.001)
    for _ in range(100):
        for rows in (1, 8, 64):
            cost.observe(rows, 0.05 + 0.002 * rows)
    assert cost.fixed == pytest.approx(0.05, rel=0.05)
    assert cost.per_row == pytest.approx(0.002, rel=0.05)


def test_with_one_batch_size_everything_is_put_down_to_the_rows() -> None:
    cost = CostModel()
    for _ in range(20):
        cost.observe(10, 0.5)
    assert cost.fixed == 0.0
    assert cost.per_row == pytest.approx(0.05)


@pytest.mark.parametrize("larger", [0.1, 0.09])
def test_noise_never_makes_a_term_negative(larger: float) -> None:
    cost = CostModel()
    for rows, seconds in ((1, 0.1), (10, larger), (1, 0.1), (10, larger)):
        cost.observe(rows, seconds)
    assert cost.fixed >= 0.0
    assert cost.per_row >= 0.0
    through_origin = CostModel()
    for rows in (10, 20, 30):
        through_origin.observe(rows, rows * 0.01 - 0.05)
    assert through_origin.fixed == 0.0


def test_rows_within_a_time() -> None:
    assert CostModel().rows_within(1.0) is None
    assert fitted(0.1, 0.01).rows_within(0.5) == 40
    assert fitted(0.1, 0.01).rows_within(0.05) == 0


def test_rows_that_make_the_fixed_cost_a_small_share() -> None:
    assert CostModel().rows_for_fixed_share(0.05) is None
    rows = fitted(0.1, 0.01).rows_for_fixed_share(0.05)
    assert rows is not None
    assert rows == pytest.approx(190, abs=1)
    assert 0.1 / fitted(0.1, 0.01).predict(rows) == pytest.approx(0.05, rel=0.01)


def test_nothing_is_said_of_shares_while_all_batches_have_one_size() -> None:
    cost = CostModel()
    for _ in range(10):
        cost.observe(4, 0.1)
    assert cost.rows_for_fixed_share(0.05) is None


def test_a_doubtful_fixed_cost_is_taken_to_be_larger() -> None:
    doubtful = CostModel()
    for size in (1, 2, 4, 8, 16, 32) * 2:
        seconds = 0.1 + 0.01 * size
        doubtful.observe(size, seconds + 0.02)
        doubtful.observe(size, seconds - 0.02)
    rows = doubtful.rows_for_fixed_share(0.05)
    assert rows is not None
    assert 190 < rows < 2 * 190


def test_batches_never_stay_small_because_all_are() -> None:
    cost = CostModel()
    for size in (80, 160):
        cost.observe(size, 0.001 * size)  # it seems that nothing is fixed
    for number in range(1000):
        cost.observe(40, 0.06 if number % 2 else 0.05)
        rows = cost.rows_for_fixed_share(0.025)
        if rows is None or rows > 40:
            return
    pytest.fail("nothing will ever be learnt about larger ones")


def test_arrivals_average_gaps_and_sizes() -> None:
    arrivals = Arrivals()
    assert math.isinf(arrivals.interval(0.0))
    for step in range(100):
        arrivals.observe(step * 0.5, 4)
    assert arrivals.interval(49.6) == pytest.approx(0.5)
    assert arrivals.rows == pytest.approx(4)
    assert arrivals.interval(60.0) == pytest.approx(10.5)  # silence says: do not count on another


def arriving(gap: float, rows: int) -> Arrivals:
    arrivals = Arrivals()
    for step in range(50):
        arrivals.observe(step * gap, rows)
    return arrivals


@pytest.mark.parametrize(
    ("rows", "fixed", "gap", "more", "expected"),
    [
        (1, 0.020, 0.001, 1, True),  # saves 19 ms of one row for 1 ms of another
        (1, 0.020, 0.019, 1, False),  # saves 1 ms for 19
        (30, 0.020, 0.001, 1, False),  # thirty rows wait for one
        (30, 0.020, 0.001, 64, True),  # thirty rows wait for sixty-four
        (1, 0.0, 0.001, 8, False),  # nothing to share
    ],
)
def test_waiting_pays_when_what_joins_saves_more_than_what_waits_loses(
    rows: int, fixed: float, gap: float, more: int, expected: bool
) -> None:
    now = 49 * gap
    assert pays_to_wait(rows, fitted(fixed, 1e-5), arriving(gap, more), now) is expected


def test_nothing_waits_on_an_unfitted_cost() -> None:
    assert not pays_to_wait(1, CostModel(), arriving(0.001, 8), 0.049)
