"""The table of methods of training says what cells say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.training_table import table
from training.compare.summary import FIGURES


def write_cell(folder: Path, method: str, keep: float | None, ap: float, **more: Any) -> None:
    cells = folder / "birds" / "cells"
    cells.mkdir(parents=True, exist_ok=True)
    record = {
        "method": method, "keep": keep, "tasks": 2, "seed": 0, "failure": None,
        "asked": {"settings": {"time_limit_s": 60.0}},
        "figures": dict.fromkeys(FIGURES, 0.9) | {"average_precision": ap, "majority": 0.8},
        "cost": {"passes": 1.25, "masked_passes": 2}, "training": {"seconds": 60, "epochs": 3},
    }  # fmt: skip
    (cells / f"{method}-{keep}.json").write_text(json.dumps(record | more))


@pytest.mark.parametrize(("ap", "word"), [(0.49, "loses"), (0.52, "ties"), (0.56, "wins")])
def test_evidence_is_judged_by_the_interval_of_hard_sharing(
    tmp_path: Path, ap: float, word: str
) -> None:
    write_cell(tmp_path, "shared", None, 0.525, intervals={"average_precision": [0.5, 0.55]})
    write_cell(tmp_path, "evidence", 0.5, ap)
    write_cell(tmp_path, "evidence", 0.2, 0.9)
    write_cell(tmp_path, "paper", 0.2, 0.3)
    write_cell(tmp_path, "paper", 0.8, 0.4)
    write_cell(tmp_path, "evidence-all", 0.5, 0.45)
    row = table(tmp_path).splitlines()[-1]
    assert row == (
        f"| birds | 60 | 0.525 (0.500 to 0.550) | {ap:.3f} | {word} | – | 0.400 (0.8) | 0.450 "
        "| 40% | 1.2, 1.2, 1.2 |"
    )


def test_no_gap_is_said_where_the_papers_routes_are_missing_or_as_good(tmp_path: Path) -> None:
    write_cell(tmp_path, "shared", None, 0.525, intervals={"average_precision": [0.5, 0.55]})
    write_cell(tmp_path, "evidence-all", 0.5, 0.45)
    assert "| – | 0.450 | – |" in table(tmp_path)
    write_cell(tmp_path, "paper", 0.5, 0.53)
    assert "| 0.530 (0.5) | 0.450 | – |" in table(tmp_path)


def test_nothing_is_said_without_hard_sharing(tmp_path: Path) -> None:
    write_cell(tmp_path, "evidence", 0.5, 0.9)
    assert len(table(tmp_path).splitlines()) == 2
