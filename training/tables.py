"""Held-out figures as tables: for the terminal and for the model card."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.table import Table

from training.evaluation import Evaluation

Figures = Mapping[str, float | int | None]

COLUMNS = {
    "images": "labels",
    "positive_rate": "positive",
    "majority": "majority",
    "accuracy": "accuracy",
    "accuracy_at_half": "at 0.5",
    "balanced_accuracy": "balanced",
    "balanced_accuracy_at_half": "balanced at 0.5",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "average_precision": "AP",
    "auroc": "AUROC",
    "ece": "ECE",
    "threshold": "threshold",
}
"""Figures of a model card, and how their columns are headed."""

TERMINAL_COLUMNS = {
    "majority": "major",
    "accuracy": "acc",
    "accuracy_at_half": "@0.5",
    "balanced_accuracy": "balan",
    "precision": "prec",
    "recall": "recal",
    "f1": "F1",
    "average_precision": "AP",
    "auroc": "AUROC",
    "threshold": "thres",
}
"""Figures that fit 80 characters beside a task's name."""


def terminal_table(evaluation: Evaluation) -> Table:
    """The figures for a rich console: tasks, then means of groups and of all tasks."""
    table = Table(
        title=f"{evaluation.images} held-out images, split {evaluation.split}; major: accuracy of "
        "the most frequent answer; acc to F1: at the task's threshold",
        title_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
    )
    table.add_column("task", overflow="fold")
    for heading in TERMINAL_COLUMNS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for name, figures in _rows(evaluation):
        table.add_row(name, *_cells(figures, TERMINAL_COLUMNS))
    return table


def markdown_table(evaluation: Evaluation) -> str:
    """The figures for a model card."""
    header = ["task", *COLUMNS.values()]
    lines = [header, ["---", *["---:"] * len(COLUMNS)]]
    lines += [[name, *_cells(figures, COLUMNS)] for name, figures in _rows(evaluation)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rows(evaluation: Evaluation) -> list[tuple[str, Figures]]:
    """Each task, each group's mean where there are several groups, the mean of all."""
    tasks = [(task.name, evaluation.figures[task.name].to_json()) for task in evaluation.tasks]
    groups = evaluation.groups if len(evaluation.groups) > 1 else {}
    means = [(f"mean of {name}", dict(figures)) for name, figures in groups.items()]
    return [*tasks, *means, ("mean of all tasks", dict(evaluation.macro))]


def _cells(figures: Figures, columns: Iterable[str]) -> list[str]:
    return [_cell(figures.get(name)) for name in columns]


def _cell(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
