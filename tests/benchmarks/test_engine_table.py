"""The README's table of speed says what the cells say."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.engine_table import PART, parts, table


def test_a_line_for_each_cell(tmp_path: Path) -> None:
    cell = {
        "size": 224, "routed_layers": "last:2", "keep": 0.25, "tasks": 40,
        "loop_over": {"subnet": 24.4}, "channels_last_loop_over": {"subnet": 20.6},
        "over_dense": {"subnet": 4.67},
    }  # fmt: skip
    (tmp_path / "result.json").write_text(json.dumps({"cells": [cell]}))
    assert table(tmp_path).splitlines()[2:] == ["| 224 | 40 | last:2 | 0.25 | 24 | 21 | 4.7 |"]


def test_before_anything_was_measured_nothing_is_said(tmp_path: Path) -> None:
    assert parts(tmp_path) == {PART: ""}
