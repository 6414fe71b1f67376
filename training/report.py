"""A run's report: one HTML file of its held-out figures, with nothing outside it and no script."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.decision import Floats
from model.preprocess import Pixels
from model.task_network import TaskNetwork
from model.tasks import Task
from training.bootstrap import Intervals
from training.decoding import ImageSet
from training.evaluation import Evaluation
from training.prediction import predict
from training.report_figures import bars, overlap, precision_recall, reliability
from training.sources import MISSING, Labels
from training.tables import COLUMNS

SHOWN = {"balanced_accuracy": "Balanced accuracy", "average_precision": "Average precision"}
"""Figures with bars of all tasks."""
_WORST = 6

_STYLE = """
:root{color-scheme:light dark;--page:#fff;--ink:#1b1f24;--accent:#2563a8;--faint:#9aa4af}
@media(prefers-color-scheme:dark){:root{--page:#14171b;--ink:#e4e7ea;--accent:#6cb0f5;--faint:#66707a}}
body{margin:0 auto;max-width:84rem;padding:1rem;background:var(--page);color:var(--ink);
font:1rem/1.5 system-ui,sans-serif}
h1,h2,h3{line-height:1.25;overflow-wrap:anywhere}
.grid{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,20rem),1fr))}
.wide{overflow-x:auto}
figure{margin:0}svg{display:block;width:100%;height:auto;max-width:34rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .5rem;text-align:right;border-bottom:1px solid var(--faint)}
th:first-child,td:first-child{text-align:left}
.worst{display:flex;flex-wrap:wrap;gap:.5rem}.worst figure{width:6rem;font-size:.8rem}
.worst img{width:100%;image-rendering:auto}
"""


@dataclass(frozen=True)
class Mistake:
    """An image on which the network was sure and wrong."""

    image: int
    said: str
    label: str
    probability: float
    """Of what it said."""


def write_report(
    title: str,
    network: TaskNetwork,
    images: ImageSet,
    evaluation: Evaluation,
    with_images: bool = True,
) -> str:
    """The page, as text.

    Args:
        evaluation: of ``network`` on ``images``.
        with_images: whether the worst mistakes are shown; without, no pixel of the data is in it.
    """
    predictions = predict(network, images.pixels, labels=images.labels)
    tasks = [
        _task(task, predictions[index], images.labels[:, index], images.pixels, with_images)
        for index, task in enumerate(network.tasks)
    ]
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{evaluation.images} images of split <em>{escape(evaluation.split)}</em>, "
        f"{len(network.tasks)} tasks. An accuracy means something only above the majority's.</p>",
        *_bars(evaluation),
        "<h2>All figures</h2>",
        _table(evaluation),
        *_routes(network),
        "<h2>Tasks</h2>",
        *tasks,
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"{chr(10).join(body)}</body></html>\n"
    )


def _bars(evaluation: Evaluation) -> list[str]:
    parts = []
    for figure, words in SHOWN.items():
        rows = [
            (task.name, value, _interval(evaluation.intervals, task.name, figure, value))
            for task in evaluation.tasks
            if (value := getattr(evaluation.figures[task.name], figure)) is not None
        ]
        if rows:
            names, values, intervals = zip(*rows, strict=True)
            parts += [f"<h2>{words}</h2>", _grid(bars(figure, names, values, intervals))]
    return parts


def _interval(
    intervals: Intervals | None, task: str, figure: str, value: float
) -> tuple[float, float]:
    found = intervals.tasks[task][figure] if intervals is not None else None
    return found or (value, value)


def _table(evaluation: Evaluation) -> str:
    head = "".join(f"<th>{escape(words)}</th>" for words in ("task", *COLUMNS.values()))
    rows = [
        "<tr><td>" + escape(task.name) + "</td>"
        + "".join(f"<td>{_number(getattr(evaluation.figures[task.name], c))}</td>" for c in COLUMNS)
        + "</tr>"
        for task in evaluation.tasks
    ]  # fmt: skip
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _number(value: float | int | None) -> str:
    return "–" if value is None else f"{value:d}" if isinstance(value, int) else f"{value:.3f}"


def _routes(network: TaskNetwork) -> list[str]:
    """Overlap of routes over all routed layers; nothing where no layer is routed."""
    masks = [mask.cpu().numpy() for mask in network.routes if mask is not None]
    if not masks:
        return []
    used = np.concatenate(masks, axis=1).astype(np.float64)  # [tasks, units]
    shares = used @ used.T / used.sum(axis=1, keepdims=True)
    said = "Share of the row's units that the column's task uses too, over all routed layers."
    return ["<h2>Overlap of routes</h2>", f"<p>{said}</p>", _grid([overlap(shares)])]


def _task(
    task: Task, probabilities: Floats, labels: Labels, pixels: Pixels, with_images: bool
) -> str:
    rows = np.flatnonzero(labels != MISSING)
    scores, target = probabilities[rows], labels[rows]
    figures = []
    if len(rows):
        likeliest = scores if task.is_binary else scores.max(axis=1)
        right = target == (1 if task.is_binary else scores.argmax(axis=1))
        figures.append(reliability(task.name, likeliest, right))
    classes = [(1, scores)] if task.is_binary else list(enumerate(scores.T))
    curves = [(one, target == label) for label, one in classes if (target == label).any()]
    if curves:
        figures.append(precision_recall(task.name, curves))
    worst = [
        _thumbnail(pixels[rows[one.image]], one) for one in mistakes(task, scores, target)
    ] if with_images else []  # fmt: skip
    shown = f'<p>Worst mistakes:</p><div class="worst">{"".join(worst)}</div>' if worst else ""
    return f"<section><h3>{escape(task.name)}</h3>{_grid(figures)}{shown}</section>"


def mistakes(task: Task, scores: Floats, target: NDArray[np.int16]) -> list[Mistake]:
    """The wrong answers given with the highest probability, worst first.

    Args:
        scores: [N] of P(classes[1]) for a binary task, else [N, classes].
        target: [N] observed labels.
    """
    if task.is_binary:
        said = (scores >= task.threshold).astype(int)
        given = np.where(said == 1, scores, 1 - scores)
    else:
        said, given = scores.argmax(axis=1), scores.max(axis=1)
    wrong = np.flatnonzero(said != target)
    worst = wrong[np.argsort(-given[wrong], kind="stable")][:_WORST]
    return [
        Mistake(int(one), task.classes[said[one]], task.classes[target[one]], float(given[one]))
        for one in worst
    ]


def _thumbnail(pixels: Pixels, mistake: Mistake) -> str:
    out = io.BytesIO()
    Image.fromarray(np.array(pixels)).save(out, "PNG")
    data = base64.b64encode(out.getvalue()).decode()
    words = escape(f"{mistake.said} ({mistake.probability:.2f}), is {mistake.label}")
    return (
        f'<figure><img alt="{words}" src="data:image/png;base64,{data}">'
        f"<figcaption>{words}</figcaption></figure>"
    )


def _grid(figures: Sequence[str]) -> str:
    return f'<div class="grid">{"".join(f"<figure>{one}</figure>" for one in figures)}</div>'
