"""What the sizing guide reckons with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.machine import describe
from benchmarks.sizing import PART, figures, parts, replicas


def write_figures(folder: Path) -> None:
    rows = [
        {"processes": 1, "threads": 1, "rows_per_s": 1000.0},
        {"processes": 2, "threads": 1, "rows_per_s": 1900.0},
        {"processes": 1, "threads": 1, "rows_per_s": 900.0},
    ]
    result = {"bundle": "small", "tasks": 40, "seconds": 1, "rows": rows}
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "machine.json").write_text(json.dumps(describe()))


@pytest.mark.parametrize(("load", "count"), [(1, 2), (600, 2), (601, 3), (6000, 11)])
def test_replicas_run_at_three_fifths_and_one_may_leave(load: int, count: int) -> None:
    assert replicas(load, 1000.0) == count


def test_figures_are_ratios_and_replicas(tmp_path: Path) -> None:
    write_figures(tmp_path)
    lines = figures(tmp_path).splitlines()
    assert "| 2 | 1 | 1900 | 1.9 |" in lines
    assert "| 100 | 4000 | 9 |" in lines, "by the lower figure of one process and one thread"


def test_before_anything_was_measured_nothing_is_said(tmp_path: Path) -> None:
    assert parts(tmp_path) == {PART: ""}
