"""Two versions' answers about the same held-out images: figures, differences, intervals.

The bootstrap is paired: every resample of the images gives a figure of either version, and the
interval is that of their difference. What is hard about the images then cancels, and a difference
far smaller than either figure's own interval can be told from chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model.decision import Floats
from model.tasks import Task
from training.bootstrap import LEVEL, Doubles, Interval, resample_counts, resampled_figures
from training.sources import Labels

FIGURES = ("average_precision", "ece", "auroc")


@dataclass(frozen=True)
class Change:
    """One figure of the old and of the new version; None where the images cannot say."""

    old: float | None
    new: float | None
    interval: Interval | None
    """Where ``new - old`` lies by chance, with 95 % of the resamples."""

    @property
    def difference(self) -> float | None:
        return None if self.old is None or self.new is None else self.new - self.old


@dataclass(frozen=True)
class Movement:
    """How far the new version's probabilities are from the old one's, over all held-out images.

    Of a task with several classes the class that moved most counts.
    """

    mean: float
    p95: float
    largest: float
    relabelled: float
    """Share of the images that get another label, by either version's own threshold."""


@dataclass(frozen=True)
class TaskComparison:
    """One task, as the old and the new version answer it."""

    name: str
    group: str
    images: int
    """With a label for it."""
    figures: Mapping[str, Change]
    """By name of FIGURES."""
    moved: Movement


@dataclass(frozen=True)
class Comparison:
    """All tasks, and the means over them."""

    split: str
    images: int
    resamples: int
    tasks: tuple[TaskComparison, ...]
    macro: Mapping[str, Change]
    """By name of FIGURES; over the tasks that have the figure in both versions."""


@dataclass(frozen=True)
class Answers:
    """One version's tasks, and its answers about the images."""

    tasks: Sequence[Task]
    probabilities: Sequence[Floats]
    """By task: [N] of P(classes[1]) where it is binary, else [N, classes]."""


def compare_answers(
    old: Answers, new: Answers, labels: Labels, split: str, resamples: int, seed: int = 0
) -> Comparison:
    """Compare two versions with the same tasks in the same order.

    Args:
        labels: [N, T], class index or MISSING, of the held-out images.
    """
    counts = resample_counts(len(labels), resamples, seed)
    counts = np.concatenate([np.ones_like(counts[:, :1]), counts], axis=1)  # first, each image once
    resampled = []  # by task: of the old and of the new version
    compared = []
    for index, (before, after) in enumerate(zip(old.tasks, new.tasks, strict=True)):
        was, now = old.probabilities[index], new.probabilities[index]
        pair = (
            resampled_figures(before, was, labels[:, index], counts),
            resampled_figures(after, now, labels[:, index], counts),
        )
        resampled.append(pair)
        compared.append(
            TaskComparison(
                after.name,
                after.group,
                images=int((labels[:, index] >= 0).sum()),
                figures={name: _change(pair[0][name], pair[1][name]) for name in FIGURES},
                moved=_movement(before, after, was, now),
            )
        )
    macro = {
        name: _change(
            _mean([one[name] for one, _ in resampled]), _mean([two[name] for _, two in resampled])
        )
        for name in FIGURES
    }
    return Comparison(split, len(labels), resamples, tuple(compared), macro)


def _change(old: Doubles, new: Doubles) -> Change:
    """From the figures of the images themselves, followed by those of the resamples."""
    differences = new - old
    own, drawn = differences[0], differences[1:][~np.isnan(differences[1:])]
    interval = None
    if len(drawn) and not np.isnan(own):
        # A calibration error grows by the noise of resampling, and the better one by more.
        drawn = drawn + own - drawn.mean()
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        interval = (round(float(low), 6), round(float(high), 6))
    return Change(_value(old[0]), _value(new[0]), interval)


def _value(figure: float) -> float | None:
    return None if np.isnan(figure) else round(float(figure), 6)


def _mean(rows: Sequence[Doubles]) -> Doubles:
    """Over the tasks that have the figure; a resample that lacks it has the rest's mean."""
    values = np.stack(rows)
    there = ~np.isnan(values)
    count = there.sum(axis=0)
    total = np.where(there, values, 0.0).sum(axis=0)
    mean: Doubles = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def _movement(before: Task, after: Task, was: Floats, now: Floats) -> Movement:
    if not len(was):
        return Movement(0.0, 0.0, 0.0, 0.0)
    moved = np.abs(now.astype(np.float64) - was)
    if moved.ndim == 2:
        moved = moved.max(axis=1)
    other = _labels(before, was) != _labels(after, now)
    return Movement(
        mean=round(float(moved.mean()), 6),
        p95=round(float(np.quantile(moved, 0.95)), 6),
        largest=round(float(moved.max()), 6),
        relabelled=round(float(other.mean()), 6),
    )


def _labels(task: Task, probabilities: Floats) -> np.ndarray:
    if task.is_binary:
        return np.asarray(probabilities >= task.threshold)
    return np.asarray(probabilities.argmax(axis=1))
