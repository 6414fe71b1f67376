"""Pages on disk."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.report import Report, markdown_table


def test_numbers_are_rounded_for_readers_and_aligned_right() -> None:
    table = markdown_table(["a", "b"], [["x|y", 1234.56], ["z", None], ["w", 0.012345]])
    assert table.splitlines() == [
        "| a | b |",
        "| --- | ---: |",
        "| x/y | 1235 |",
        "| z | – |",
        "| w | 0.0123 |",
    ]


def test_a_report_is_a_page_with_its_data_machine_and_plots(tmp_path: Path) -> None:
    report = Report(tmp_path / "new", "Title")
    report.section("Part")
    report.bars("speed", "Speed", "rows/s", {"ours": 3.0, "theirs": 1.0}, "ours")
    report.lines("line", "Line", ("x", "y"), {"a": ([0.0, 1.0], [2.0, 3.0])}, [(0.0, 0.5, "load")])
    report.write({"value": 1})
    page = (tmp_path / "new/README.md").read_text()
    assert page.startswith("# Title\n")
    assert "## Part" in page
    assert "![Speed](speed.png)" in page
    for name in ("speed.png", "line.png"):
        assert (tmp_path / "new" / name).read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "new/result.json").read_text()) == {"value": 1}
    assert "cpu" in json.loads((tmp_path / "new/machine.json").read_text())
