"""The README's tables are made from the code, and current."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import reference
from service.metrics import FAMILIES
from service.settings import Settings


def test_the_readme_is_current(root: Path) -> None:
    text = (root / "README.md").read_text(encoding="utf-8")
    current = reference.rewrite(text)
    assert text == current, "run: .venv/bin/python -m service.reference --write README.md"


def test_every_setting_and_metric_has_a_row_and_a_meaning() -> None:
    for table, count in (
        (reference.settings_table(), len(Settings.model_fields)),
        (reference.metrics_table(), len(FAMILIES)),
    ):
        rows = [line.split(" | ") for line in table.splitlines()[2:]]
        assert len(rows) == count
        assert [row for row in rows if not row[-1].rstrip(" |")] == []


def test_a_file_without_the_marks_is_left_alone_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "OTHER.md"
    file.write_text("nothing here\n")
    monkeypatch.setattr("sys.argv", ["reference", "--write", str(file)])
    assert reference.main() == 1
    assert "0 places for the table of settings" in capsys.readouterr().err
    assert file.read_text() == "nothing here\n"


def test_rewriting_replaces_only_what_stands_between_the_marks() -> None:
    marks = [f"<!-- {name}: x -->\nstale rows\n<!-- end of {name} -->" for name in reference.TABLES]
    text = reference.rewrite("before\n" + "\nbetween\n".join(marks) + "\nafter\n")
    assert text.startswith("before\n<!-- settings: x -->\n\n| variable")
    assert text.endswith("<!-- end of metrics -->\nafter\n")
    assert "\nbetween\n" in text
    assert "stale rows" not in text
    assert reference.rewrite(text) == text
