"""Macro AP against keep, made from the committed cells of training.

python -m benchmarks.keep_table                                   prints it
python -m benchmarks.keep_table --write docs/training-results.md  puts it between its marks
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.generated_part import GeneratedPart, Parts, print_or_write
from benchmarks.report import markdown_table
from benchmarks.training_table import FOLDER, Compared, comparisons, shown, verdict
from training.compare.summary import Row

PART = GeneratedPart("keeps", "python -m benchmarks.keep_table")
KEEPS = (0.2, 0.4, 0.5, 0.8)
METHODS = ("evidence", "random-late", "evidence-all", "paper", "partition")
_MARKS = {"wins": " +", "ties": " =", "loses": ""}


def table(folder: Path = FOLDER) -> str:
    """Of every comparison below ``folder`` over several keeps; what does not lose is marked."""
    lines = [
        line
        for compared in comparisons(folder)
        if len({row.keep for row in compared.rows if row.method == "evidence"}) > 1
        for line in _lines(compared)
    ]
    return markdown_table(("tasks", "method", *map(str, KEEPS)), lines)


def parts(folder: Path = FOLDER) -> Parts:
    """Of docs/training-results.md."""
    return {PART: table(folder)}


def _lines(compared: Compared) -> list[list[str]]:
    found = {(row.method, row.keep): row for row in compared.rows}
    ran = {row.method for row in compared.rows}
    return [
        [
            compared.name,
            method,
            *(_cell(found.get((method, keep)), compared.interval) for keep in KEEPS),
        ]
        for method in METHODS
        if method in ran
    ]


def _cell(row: Row | None, interval: tuple[float, float]) -> str:
    return shown(row) + ("" if row is None else _MARKS[verdict(row, interval)])


def main(
    write: Annotated[Path | None, typer.Option(help="A page with the table's marks.")] = None,
) -> None:
    """Print the table, or write it into a page."""
    print_or_write(parts(), write)


if __name__ == "__main__":
    typer.run(main)
