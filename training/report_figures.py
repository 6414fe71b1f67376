"""Figures of a report as inline SVG, drawn by matplotlib; colours follow the page's theme.

matplotlib is imported where it is used: it takes a second, which no other command should wait for.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.bootstrap import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_INK, _ACCENT, _FAINT = "#010203", "#010204", "#010205"
"""Stand for the page's colours; every other colour stays as it is drawn."""
_THEMED = {_INK: "currentColor", _ACCENT: "var(--accent)", _FAINT: "var(--faint)"}
_WIDTH_IN = 4.6  # about 330 px where the page is 400 px wide
_BINS = 10
_TASKS_PER_FIGURE = 40


def bars(
    title: str, names: Sequence[str], values: Sequence[float], intervals: Sequence[Interval]
) -> list[str]:
    """Horizontal bars from 0 to 1 with their intervals, at most 40 a figure."""
    figures = []
    for start in range(0, len(names), _TASKS_PER_FIGURE):
        part = slice(start, start + _TASKS_PER_FIGURE)
        shown, lengths = names[part], np.array(values[part])
        low, high = np.array(intervals[part]).T
        errors = np.stack([lengths - low, high - lengths]).clip(min=0)

        def draw(
            axes: Axes, shown: Sequence[str] = shown, lengths: Doubles = lengths,
            errors: Doubles = errors,
        ) -> None:  # fmt: skip
            rows = np.arange(len(shown))
            axes.barh(rows, lengths, xerr=errors, color=_ACCENT, ecolor=_INK, height=0.7)
            axes.set_yticks(rows, [_short(name) for name in shown])
            axes.invert_yaxis()
            axes.set_xlim(0, 1)

        figures.append(_svg(draw, f"{title} {start}", 0.6 + 0.2 * len(shown)))
    return figures


def reliability(name: str, probabilities: Floats, right: NDArray[np.bool_]) -> str:
    """How often the answer is right, by the probability given, in ten bins of equal width."""
    bins = np.minimum((probabilities * _BINS).astype(int), _BINS - 1)
    used = np.unique(bins)
    given = [float(probabilities[bins == one].mean()) for one in used]
    seen = [float(right[bins == one].mean()) for one in used]

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=_FAINT)
        axes.plot(given, seen, color=_ACCENT, marker="o")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="probability given", ylabel="share right")

    return _svg(draw, f"reliability {name}", 3.2)


def precision_recall(name: str, curves: Sequence[tuple[Floats, NDArray[np.bool_]]]) -> str:
    """One curve for each class: its scores, and which images have it."""

    def draw(axes: Axes) -> None:
        for scores, positive in curves:
            order = np.argsort(-scores, kind="stable")
            hits = positive[order].cumsum()
            last = np.append(np.diff(scores[order]) != 0, True)  # equal scores are one step
            precision = hits / np.arange(1, len(hits) + 1)
            recall = hits / hits[-1]
            axes.step(recall[last], precision[last], where="pre", color=_ACCENT, linewidth=1)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")

    return _svg(draw, f"precision {name}", 3.2)


def overlap(shares: Doubles) -> str:
    """Heat map [tasks, tasks] of the share of one task's units that another uses too."""

    def draw(axes: Axes) -> None:
        mesh = axes.pcolormesh(shares, vmin=0, vmax=1, cmap="viridis", linewidth=0)
        axes.invert_yaxis()
        axes.set(xlabel="task, in the order of the table", ylabel="task", aspect="equal")
        bar = axes.figure.colorbar(mesh, ax=axes, shrink=0.8)
        bar.ax.tick_params(colors=_INK)

    return _svg(draw, "overlap", 4.0)


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"


def _svg(draw: Any, salt: str, height_in: float) -> str:
    """One figure without anything that points outside it, ids of its own, as wide as its place."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {  # matplotlib spells its keys out, by the hundred
        "svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 10, "text.parse_math": False,
        "font.family": "sans-serif",
        **{f"{one}.color": _INK for one in ("text", "xtick", "ytick")},
        "axes.edgecolor": _INK, "axes.labelcolor": _INK, "axes.facecolor": "none",
    }  # fmt: skip
    with mpl.rc_context(style):
        figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
        figure.patch.set_visible(False)
        draw(figure.add_subplot())
        out = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(out, format="svg", metadata=nothing)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 role="img"', text, count=1)
    prefix = re.sub(r"\W", lambda found: f"_{ord(found[0])}_", salt)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = text.replace('href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
    for placeholder, colour in _THEMED.items():
        text = text.replace(placeholder, colour)
    return text
