"""Pages say what the code and the committed results say, and `make pages` makes them do so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.generated_part import GeneratedPart
from benchmarks.pages import PAGES, main, rewritten
from tests.conftest import ROOT

MARK = re.compile(r"<!-- (?!end of )[\w-]+: (?:written by `)?(python -m [\w.]+)")
OF_README = "python -m service.reference"
"""Of the tables that tests/service/test_reference.py compares."""


@pytest.fixture(autouse=True)
def at_the_top(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_what_its_results_say(name: str) -> None:
    assert Path(name).read_text(encoding="utf-8") == rewritten(name), "run: make pages"


def test_every_page_with_marks_is_rewritten() -> None:
    marked = {
        str(path): set(MARK.findall(path.read_text(encoding="utf-8"))) - {OF_README}
        for path in (Path("README.md"), *Path("docs").glob("*.md"))
    }
    made = {
        name: {part.command for parts in made_by for part in parts()}
        for name, made_by in PAGES.items()
    }
    assert {name: commands for name, commands in marked.items() if commands} == made


def test_make_pages_runs_everything_that_writes() -> None:
    makefile = Path("Makefile").read_text(encoding="utf-8")
    recipe = makefile.partition("\npages: ")[2].partition("\n\n")[0].splitlines()[1:]
    assert [line.partition("$(BIN)/")[2] for line in recipe] == [
        f"{OF_README} --write README.md",
        "python -m benchmarks.pages",
        "python -m deploy.generate",
    ]


def test_a_stale_page_is_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = GeneratedPart("rows", "python -m rows")
    monkeypatch.setitem(PAGES, "page.md", (lambda: {part: "new"},))
    monkeypatch.chdir(tmp_path)
    Path("page.md").write_text(f"{part.begin}old\n{part.end}")
    main(["page.md"])
    assert Path("page.md").read_text() == f"{part.begin}new\n{part.end}"
