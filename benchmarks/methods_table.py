"""The tables of docs/methods.md, made from the committed results.

python -m benchmarks.methods_table                              prints them
python -m benchmarks.methods_table --write docs/methods.md      puts them between their marks
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.generated_part import GeneratedPart, Parts, print_or_write
from benchmarks.methods import COMPARISONS
from benchmarks.report import RESULTS, markdown_table
from training.compare.page import spread_cell
from training.compare.summary import Row, Spread, baselines, summarise

FOLDER = RESULTS / "methods"
COMMAND = "python -m benchmarks.methods_table"
MEMORY = "cross-stitch-memory"
HEADERS = (
    "method", "accuracy", "balanced accuracy", "AP (95 %)", "passes", "parameters, M", "bundle, MB",
    "epochs",
)  # fmt: skip


def parts(folder: Path = FOLDER) -> Parts:
    """Of docs/methods.md: every comparison that has results, and memory."""
    found = {name: _comparison(folder / name) for name in COMPARISONS}
    found[MEMORY] = _memory(folder / MEMORY / "result.json")
    return {GeneratedPart(name, COMMAND): text for name, text in found.items() if text}


def _comparison(folder: Path) -> str:
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("cells/*.json"))]
    if not records:
        return ""
    lines = [_line(row) for row in sorted(summarise(records), key=_average_precision, reverse=True)]
    trivial = [
        ["always the most frequent class", f"{one.accuracy:.3f}", *["–"] * (len(HEADERS) - 2)]
        for one in baselines(records)
    ]
    return markdown_table(HEADERS, [*lines, *trivial])


def _line(row: Row) -> list[str]:
    name = row.method if row.keep is None else f"{row.method}, keep {row.keep:g}"
    interval = "" if row.interval is None else f" ({row.interval[0]:.3f} to {row.interval[1]:.3f})"
    return [
        name,
        spread_cell(row.figures["accuracy"]),
        spread_cell(row.figures["balanced_accuracy"]),
        spread_cell(row.figures["average_precision"]) + interval,
        spread_cell(row.passes, 2),
        _millions(row.parameters),
        _millions(row.bundle_bytes),
        spread_cell(row.epochs, 2),
    ]


def _average_precision(row: Row) -> float:
    figure = row.figures["average_precision"]
    return figure.mean if figure else 0.0


def _millions(count: Spread | None) -> str:
    return "–" if count is None else f"{count.mean / 1e6:.3g}"


def _memory(file: Path) -> str:
    if not file.is_file():
        return ""
    result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    headers = ["tasks", "weights, GB", "to train, GB", f"within {result['limit_gb']:g} GB"]
    return markdown_table(
        [*headers, "hard sharing, weights, GB"],
        [
            [
                str(row["tasks"]),
                f"{row['weight_bytes'] / 1e9:.3g}",
                f"{row['training_bytes'] / 1e9:.3g}",
                "refused" if row["refused"] else "yes",
                f"{4 * row['shared_parameters'] / 1e9:.3g}",
            ]
            for row in result["rows"]
        ],
    )


def main(
    write: Annotated[Path | None, typer.Option(help="A page with the tables' marks.")] = None,
) -> None:
    """Print the tables, or write them into a page."""
    print_or_write(parts(), write)


if __name__ == "__main__":
    typer.run(main)
