"""What docs/sizing.md reckons with, made from the committed figures of ``benchmarks.scaling``.

python -m benchmarks.sizing                              prints it
python -m benchmarks.sizing --write docs/sizing.md       puts it between its marks
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.generated_part import GeneratedPart, Parts, print_or_write
from benchmarks.machine import summary
from benchmarks.report import RESULTS, cell, markdown_table

FOLDER = RESULTS / "scaling"
PART = GeneratedPart("figures", "python -m benchmarks.sizing")
BUSY = 0.6
"""Share of its capacity at which a replica is to run in the worst minute."""
LOADS = (10, 100, 1000)  # images/s


def replicas(rows_per_s: float, capacity: float) -> int:
    """For a load, with one more than it takes, so that one may leave."""
    return math.ceil(rows_per_s / (BUSY * capacity)) + 1


def figures(folder: Path = FOLDER) -> str:
    """What was measured, and replicas for some loads; empty before anything was measured."""
    if not (folder / "result.json").is_file():
        return ""
    result = json.loads((folder / "result.json").read_text())
    machine = json.loads((folder / "machine.json").read_text())
    rows: list[Mapping[str, Any]] = result["rows"]
    tasks, first = int(result["tasks"]), rows[0]["rows_per_s"]
    capacity = min(
        one["rows_per_s"] for one in rows if (one["processes"], one["threads"]) == (1, 1)
    )
    return "\n".join(
        (
            f"Measured on {summary(machine)}, with `{result['bundle']}`:",
            "",
            markdown_table(
                ["processes", "threads of each", "rows/s", "ratio to the first"],
                [
                    [one["processes"], one["threads"], one["rows_per_s"],
                     one["rows_per_s"] / first]
                    for one in rows
                ],
            ),
            "",
            f"With {cell(capacity)} rows/s of a replica of one thread (the lowest measured), all "
            f"{tasks} tasks asked of each image:",
            "",
            markdown_table(
                ["images/s in the worst minute", "rows/s", "replicas"],
                [[load, load * tasks, replicas(load * tasks, capacity)] for load in LOADS],
            ),
        )
    )  # fmt: skip


def parts(folder: Path = FOLDER) -> Parts:
    """Of docs/sizing.md."""
    return {PART: figures(folder)}


def main(
    write: Annotated[Path | None, typer.Option(help="A page with the marks.")] = None,
) -> None:
    """Print the figures, or write them into a page."""
    print_or_write(parts(), write)


if __name__ == "__main__":
    typer.run(main)
