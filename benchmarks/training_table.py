"""The short table on methods of training, made from the committed cells.

python -m benchmarks.training_table                              prints it
python -m benchmarks.training_table --write README.md            puts it between its marks
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from benchmarks.generated_part import GeneratedPart, Parts, print_or_write
from benchmarks.report import RESULTS, markdown_table
from training.compare.page import spread_cell
from training.compare.summary import Row, summarise

FOLDER = RESULTS / "training"
PART = GeneratedPart("training", "python -m benchmarks.training_table")
KEEP = 0.5
"""Of the routed methods but the paper's, which has the best of its keeps."""
HEADERS = (
    "tasks", "s", "hard sharing (95 %)", "evidence", "", "random-late", "paper, best keep",
    "evidence-all", "of the gap", "passes: evidence, -all, paper",
)  # fmt: skip


def table(folder: Path = FOLDER) -> str:
    """Macro AP of the methods on every comparison below ``folder`` that has hard sharing."""
    return markdown_table(HEADERS, [_line(one) for one in comparisons(folder)])


class Compared(NamedTuple):
    """What was compared at one budget."""

    name: str
    budget_s: float
    shared: Row
    interval: tuple[float, float]  # of hard sharing's AP
    rows: Sequence[Row]


def comparisons(folder: Path) -> Iterator[Compared]:
    """Those below ``folder`` that have hard sharing and its interval, by name."""
    for cells in sorted(folder.glob("*/cells")):
        records = [json.loads(path.read_text()) for path in sorted(cells.iterdir())]
        rows = summarise(records)
        shared = next((row for row in rows if row.method == "shared"), None)
        if shared is not None and shared.interval is not None:
            budget = records[0]["asked"]["settings"]["time_limit_s"]
            yield Compared(cells.parent.name, budget, shared, shared.interval, rows)


def parts(folder: Path = FOLDER) -> Parts:
    """Of README.md and docs/training-results.md."""
    return {PART: table(folder)}


def verdict(row: Row, interval: tuple[float, float]) -> str:
    """Whether ``row`` lies above, within or below hard sharing's interval of AP."""
    low, high = interval
    return "wins" if _ap(row) > high else "loses" if _ap(row) < low else "ties"


def closed(row: Row | None, paper: Row | None, shared: Row) -> str:
    """How much of what the paper's routes lack to hard sharing ``row`` makes good."""
    if row is None or paper is None or _ap(paper) >= _ap(shared):
        return "–"
    return f"{(_ap(row) - _ap(paper)) / (_ap(shared) - _ap(paper)):.0%}"


def _line(compared: Compared) -> list[str]:
    name, budget_s, shared, interval, rows = compared
    low, high = interval
    evidence, late, every = (
        _at(rows, method, KEEP) for method in ("evidence", "random-late", "evidence-all")
    )
    paper = max((row for row in rows if row.method == "paper"), key=_ap, default=None)
    best = "" if paper is None else f" ({paper.keep:g})"
    return [
        name,
        f"{budget_s:g}",
        f"{shown(shared)} ({low:.3f} to {high:.3f})",
        shown(evidence),
        "" if evidence is None else verdict(evidence, interval),
        shown(late),
        shown(paper) + best,
        shown(every),
        closed(every, paper, shared),
        ", ".join(_passes(row) for row in (evidence, every, paper)),
    ]


def _at(rows: Sequence[Row], method: str, keep: float) -> Row | None:
    return next((row for row in rows if (row.method, row.keep) == (method, keep)), None)


def shown(row: Row | None) -> str:
    """Its macro AP, with the deviation over seeds; a dash for what was not run."""
    return spread_cell(None if row is None else row.figures["average_precision"])


def _passes(row: Row | None) -> str:
    return "–" if row is None or row.passes is None else f"{row.passes.mean:.1f}"


def _ap(row: Row) -> float:
    figure = row.figures["average_precision"]
    return figure.mean if figure else 0.0


def main(
    write: Annotated[Path | None, typer.Option(help="A page with the table's marks.")] = None,
) -> None:
    """Print the table, or write it into a page."""
    print_or_write(parts(), write)


if __name__ == "__main__":
    typer.run(main)
