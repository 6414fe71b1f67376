"""Means and deviations over seeds."""

from __future__ import annotations

from typing import Any

import pytest

from training.compare.cells import Record
from training.compare.page import _bounds, spread_cell
from training.compare.summary import FIGURES, Spread, baselines, summarise


def record(accuracy: float | None, **changes: Any) -> Record:
    """A cell's result as far as a summary reads it; accuracy None: it diverged."""
    place = {"method": "paper", "keep": 0.5, "tasks": 3, "seed": 0} | changes
    if accuracy is None:
        return place | {"failure": "no number"}
    figures = dict.fromkeys(FIGURES, 0.5) | {"accuracy": accuracy, "majority": 0.75}
    return place | {
        "failure": None,
        "figures": figures,
        "cost": {"passes": 1.5, "masked_passes": 3},
        "training": {"seconds": 10.0, "epochs": 2.0},
    }


def test_seeds_become_mean_and_sample_deviation() -> None:
    (row,) = summarise([record(0.8, seed=0), record(0.9, seed=1), record(1.0, seed=2)])
    accuracy = row.figures["accuracy"]
    assert accuracy is not None
    assert (accuracy.mean, accuracy.std) == pytest.approx((0.9, 0.1))
    assert row.seeds == (0, 1, 2)
    assert row.passes == Spread(1.5, 0.0)
    assert spread_cell(row.figures["accuracy"]) == "0.900 ± 0.100"


def test_one_seed_has_no_deviation() -> None:
    (row,) = summarise([record(0.8)])
    assert row.figures["accuracy"] == Spread(0.8, None)
    assert spread_cell(row.figures["accuracy"]) == "0.800"


def test_a_diverged_seed_is_named_and_in_no_mean() -> None:
    (row,) = summarise([record(0.8, seed=0), record(None, seed=1)])
    assert (row.seeds, row.failed_seeds) == ((0,), (1,))
    assert row.figures["accuracy"] == Spread(0.8, None)


def test_a_method_that_always_diverged_has_no_figures() -> None:
    (row,) = summarise([record(None)])
    assert row.figures == dict.fromkeys(FIGURES)
    assert spread_cell(row.figures["accuracy"]) == "–"


def test_a_figure_that_some_seeds_lack_is_the_mean_of_the_others() -> None:
    lacking = record(0.6)
    lacking["figures"]["auroc"] = None
    (row,) = summarise([lacking, record(0.8, seed=1)])
    assert row.figures["auroc"] == Spread(0.5, None)


def test_rows_keep_methods_keeps_and_counts_apart() -> None:
    places: list[dict[str, Any]] = [{}, {"keep": 0.2}, {"tasks": 5}, {"method": "shared"}]
    rows = summarise([record(0.8, **place) for place in places])
    assert [(row.method, row.keep, row.tasks) for row in rows] == [
        ("paper", 0.5, 3), ("paper", 0.2, 3), ("paper", 0.5, 5), ("shared", 0.5, 3),
    ]  # fmt: skip


def test_the_majority_baseline_of_every_number_of_tasks() -> None:
    found = baselines([record(None, tasks=2), record(0.8, tasks=5), record(0.9, tasks=2)])
    assert [(one.tasks, one.accuracy) for one in found] == [(2, 0.75), (5, 0.75)]


def test_the_interval_of_ap_is_the_mean_over_the_seeds_that_have_one() -> None:
    cells = [
        record(0.8, seed=seed) | {"intervals": interval and {"average_precision": interval}}
        for seed, interval in enumerate([(0.4, 0.6), (0.5, 0.6), None])
    ]
    (row,) = summarise([*cells, record(0.8, seed=3)])
    assert row.interval == pytest.approx((0.45, 0.6))
    assert _bounds(row.interval) == "0.450 to 0.600"
    assert _bounds(None) == "–"
