"""Plots of a comparison. matplotlib is imported when the first one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.compare.summary import FIGURES, Baseline, Row

PANELS = ("accuracy", "balanced_accuracy", "average_precision", "recall")
_GREY = "#64748b"


def against_keep(path: Path, rows: Sequence[Row], baseline: Baseline | None) -> None:
    """One line per method; a method without routes is a level line (the paper's Figure 4).

    Args:
        rows: of one number of tasks.
    """
    figure, panels = _panels()
    for name, axes in panels.items():
        for index, method in enumerate(_methods(rows)):
            own = [row for row in rows if row.method == method]
            if own[0].keep is None:
                level = own[0].figures[name]
                if level is not None:
                    axes.axhline(level.mean, color=f"C{index}", linestyle="--", label=method)
            else:
                _line(axes, own, name, [row.keep for row in own], f"C{index}", method)
        if baseline is not None and name == "accuracy":
            axes.axhline(baseline.accuracy, color=_GREY, linestyle=":", label="majority")
        axes.set_xlabel("keep")
    _save(figure, panels, path)


def against_tasks(path: Path, rows: Sequence[Row], baselines: Sequence[Baseline]) -> None:
    """One line per method (the paper's Figure 5).

    Args:
        rows: of one keep, and of methods without routes.
    """
    figure, panels = _panels()
    for name, axes in panels.items():
        for index, method in enumerate(_methods(rows)):
            own = sorted((row for row in rows if row.method == method), key=lambda row: row.tasks)
            _line(axes, own, name, [row.tasks for row in own], f"C{index}", method)
        if name == "accuracy":
            places, values = [b.tasks for b in baselines], [b.accuracy for b in baselines]
            axes.plot(places, values, color=_GREY, linestyle=":", label="majority")
        axes.set_xlabel("tasks")
    _save(figure, panels, path)


def against_cost(path: Path, rows: Sequence[Row], baseline: Baseline | None) -> None:
    """Each row a point over what it costs to serve; ``rows`` are of one number of tasks."""
    figure, panels = _panels()
    for name, axes in panels.items():
        for index, method in enumerate(_methods(rows)):
            own = [row for row in rows if row.method == method]
            own.sort(key=lambda row: row.passes.mean if row.passes else 0.0)
            places = [row.passes.mean if row.passes else None for row in own]
            _line(axes, own, name, places, f"C{index}", method)
        if baseline is not None and name == "accuracy":
            axes.axhline(baseline.accuracy, color=_GREY, linestyle=":", label="majority")
        axes.set_xscale("log")
        axes.set_xlabel("trunk passes for all tasks")
    _save(figure, panels, path)


def _methods(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.method for row in rows))


def _line(
    axes: Any,
    rows: Sequence[Row],
    name: str,
    places: Sequence[float | None],
    colour: str,
    label: str,
) -> None:
    """Means over ``places`` with their deviations; rows without the figure are left out."""
    points = [
        (place, spread.mean, spread.std or 0.0)
        for row, place in zip(rows, places, strict=True)
        if (spread := row.figures[name]) is not None and place is not None
    ]
    if points:
        x, mean, std = zip(*points, strict=True)
        axes.errorbar(
            x, mean, yerr=std, color=colour, label=label, marker="o", capsize=3, linewidth=1.3
        )


def _panels() -> tuple[Any, dict[str, Any]]:
    from matplotlib.figure import Figure  # not pyplot: no display, no global state

    figure = Figure(figsize=(10, 7), layout="constrained")
    drawn = dict(zip(PANELS, figure.subplots(2, 2).flatten(), strict=True))
    for name, axes in drawn.items():
        axes.set_title(FIGURES[name])
        axes.grid(alpha=0.3)
    return figure, drawn


def _save(figure: Any, panels: dict[str, Any], path: Path) -> None:
    handles, labels = panels["accuracy"].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=110)
