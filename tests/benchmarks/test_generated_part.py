"""Text between two marks of a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.generated_part import GeneratedPart, print_or_write, rewrite

ROWS = GeneratedPart("rows", "python -m rows")
MORE = GeneratedPart("more", "python -m more")
PAGE = """# Page
<!-- rows: python -m rows -->
old
<!-- end of rows -->
between
<!-- more: python -m more -->
<!-- end of more -->
"""


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    new = rewrite(PAGE, {ROWS: r"| \1 |", MORE: "filled"})
    assert new == PAGE.replace("old", r"| \1 |").replace(
        "<!-- end of more", "filled\n<!-- end of more"
    )
    assert rewrite(new, {ROWS: "old", MORE: ""}) == PAGE


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no marks <!-- more: python -m more --> and"):
        rewrite("# Page", {MORE: "text"})


def test_parts_are_printed_or_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_or_write({ROWS: "new"}, None)
    assert capsys.readouterr().out == "rows\n\nnew\n\n"
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    print_or_write({ROWS: "new"}, page)
    assert page.read_text(encoding="utf-8") == PAGE.replace("old", "new")
