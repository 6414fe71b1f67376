"""Results on disk: JSON for machines, a Markdown page with tables, and plots.

Each measurement owns one folder. The machine's description is written beside every result, and its
one-line summary stands at the head of the page.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine

RESULTS = Path("benchmarks/results")
_BLUE, _GREY = "#2563eb", "#94a3b8"


class Report:
    """Collects a page; :meth:`write` puts it on disk together with its data."""

    def __init__(self, folder: Path, title: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.machine = machine.describe()
        self._lines = [f"# {title}", "", machine.summary(self.machine), ""]

    def section(self, title: str) -> None:
        self._lines += [f"## {title}", ""]

    def text(self, text: str) -> None:
        self._lines += [text, ""]

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        self._lines += [markdown_table(headers, rows), ""]

    def bars(
        self, name: str, title: str, unit: str, values: Mapping[str, float], highlight: str = ""
    ) -> None:
        """Horizontal bars, one per entry; those whose label starts with ``highlight`` stand out."""
        figure, axes = _figure(height=0.8 + 0.35 * len(values))
        labels = list(values)[::-1]
        colours = [_BLUE if highlight and one.startswith(highlight) else _GREY for one in labels]
        drawn = axes.barh(labels, [values[label] for label in labels], color=colours)
        axes.bar_label(drawn, fmt="%.3g", padding=3)
        axes.set_xlabel(unit)
        axes.set_title(title)
        axes.margins(x=0.12)
        self._save(figure, name, title)

    def lines(
        self,
        name: str,
        title: str,
        labels: tuple[str, str],
        series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
        spans: Sequence[tuple[float, float, str]] = (),
        log: bool = False,
    ) -> None:
        """Curves over a common axis; ``spans`` shades and names parts of it."""
        figure, axes = _figure(height=3.6)
        for label, (x, y) in series.items():
            axes.plot(x, y, label=label, linewidth=1.3, marker="o" if len(x) < 20 else None)
        for start, end, label in spans:
            axes.axvspan(start, end, color=_GREY, alpha=0.2, label=label)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        if log:
            axes.set_xscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.legend(fontsize=8)
        axes.set_title(title)
        self._save(figure, name, title)

    def write(self, data: Mapping[str, Any]) -> None:
        """``result.json``, ``machine.json`` and the page ``README.md``."""
        write_json(self.folder / "result.json", data)
        write_json(self.folder / "machine.json", self.machine)
        page = "\n".join(self._lines).rstrip() + "\n"
        (self.folder / "README.md").write_text(page)

    def _save(self, figure: Any, name: str, title: str) -> None:
        figure.savefig(self.folder / f"{name}.png", dpi=120, bbox_inches="tight")
        self._lines += [f"![{title}]({name}.png)", ""]


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Numbers with three significant digits, right-aligned; None is a dash."""
    numeric = [
        all(isinstance(row[column], float | int | None) for row in rows)
        for column in range(len(headers))
    ]
    lines = [
        _row(headers),
        _row(["---:" if right else "---" for right in numeric]),
        *(_row([cell(value) for value in row]) for row in rows),
    ]
    return "\n".join(lines)


def cell(value: object) -> str:
    """How a value reads in a table."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value).replace("|", "/")


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Whole or not at all, so that an interrupted run leaves the last good file."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(data, indent=1) + "\n")
    os.replace(temporary, path)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _figure(height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # not pyplot: no display, no global state

    figure = Figure(figsize=(8, height), layout="constrained")
    return figure, figure.subplots()
