"""The short table on what a subnet saves, made from the committed figures of ``benchmarks.engine``.

python -m benchmarks.engine_table                          prints it
python -m benchmarks.engine_table --write README.md        puts it between its marks
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.generated_part import GeneratedPart, Parts, print_or_write
from benchmarks.report import RESULTS, markdown_table

FOLDER = RESULTS / "engine"
PART = GeneratedPart("engine", "python -m benchmarks.engine_table")
HEADERS = (
    "image, px", "tasks", "routed layers", "keep", "times as fast as the loop",
    "as the loop in channels-last order", "cost in hard-shared passes",
)  # fmt: skip


def table(folder: Path = FOLDER) -> str:
    """A line for each headline; empty before anything was measured."""
    file = folder / "result.json"
    if not file.is_file():
        return ""
    return markdown_table(HEADERS, [_line(one) for one in json.loads(file.read_text())["cells"]])


def parts(folder: Path = FOLDER) -> Parts:
    """Of README.md."""
    return {PART: table(folder)}


def _line(cell: Mapping[str, Any]) -> list[object]:
    return [
        *(cell[key] for key in ("size", "tasks", "routed_layers", "keep")),
        f"{cell['loop_over']['subnet']:.0f}",
        f"{cell['channels_last_loop_over']['subnet']:.0f}",
        f"{cell['over_dense']['subnet']:.1f}",
    ]


def main(
    write: Annotated[Path | None, typer.Option(help="A page with the table's marks.")] = None,
) -> None:
    """Print the table, or write it into a page."""
    print_or_write(parts(), write)


if __name__ == "__main__":
    typer.run(main)
