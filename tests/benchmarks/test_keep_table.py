from __future__ import annotations

from pathlib import Path

from benchmarks.keep_table import table
from tests.benchmarks.test_training_table import write_cell


def test_what_does_not_lose_to_hard_sharing_is_marked(tmp_path: Path) -> None:
    write_cell(tmp_path, "shared", None, 0.525, intervals={"average_precision": [0.5, 0.55]})
    for keep, ap in ((0.2, 0.49), (0.5, 0.51), (0.8, 0.56)):
        write_cell(tmp_path, "evidence", keep, ap)
    write_cell(tmp_path, "paper", 0.2, 0.3)
    assert table(tmp_path).splitlines()[2:] == [
        "| birds | evidence | 0.490 | – | 0.510 = | 0.560 + |",
        "| birds | paper | 0.300 | – | – | – |",
    ]


def test_one_keep_is_no_comparison_of_keeps(tmp_path: Path) -> None:
    write_cell(tmp_path, "shared", None, 0.525, intervals={"average_precision": [0.5, 0.55]})
    write_cell(tmp_path, "evidence", 0.5, 0.51)
    assert len(table(tmp_path).splitlines()) == 2
