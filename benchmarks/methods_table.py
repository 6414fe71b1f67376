"""The tables of docs/methods.md, made from the committed results.

python -m benchmarks.methods_table                              prints them
python -m benchmarks.methods_table --write docs/methods.md      puts them between their marks
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.methods import COMPARISONS
from benchmarks.report import RESULTS, markdown_table
from training.compare.page import spread_cell
from training.compare.summary import Row, Spread, baselines, summarise

FOLDER = RESULTS / "methods"
MEMORY = "cross-stitch-memory"
HEADERS = (
    "method", "accuracy", "balanced accuracy", "AP (95 %)", "passes", "parameters, M", "bundle, MB",
    "epochs",
)  # fmt: skip


def tables(folder: Path = FOLDER) -> dict[str, str]:
    """By the name that stands in a page's marks: every finished comparison, and memory."""
    found = {name: _comparison(folder / name) for name in COMPARISONS}
    found[MEMORY] = _memory(folder / MEMORY / "result.json")
    return {name: text for name, text in found.items() if text}


def rewrite(text: str, made: Mapping[str, str]) -> str:
    """Replace what stands between the marks of each table.

    Raises:
        ValueError: the marks of a table are missing.
    """
    for name, table in made.items():
        begin, end = (
            f"<!-- {name}: python -m benchmarks.methods_table -->\n",
            f"<!-- end of {name} -->",
        )
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"no marks {begin.strip()} and {end}")
        new = f"{begin}{table}\n{end}".replace("\\", r"\\")
        text = pattern.sub(new, text)
    return text


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
    made = tables()
    if write is None:
        for name, table in made.items():
            print(f"{name}\n\n{table}\n")
    else:
        write.write_text(rewrite(write.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
