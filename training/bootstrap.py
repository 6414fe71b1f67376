"""How far held-out figures may be off by chance: percentile bootstrap over the images.

Every resample draws as many images as there are, with replacement, and takes all tasks' labels of
each: tasks that fail on the same images then fail together in the macro figures as well. A resample
is a column of counts, and every figure is computed for all columns at once.

Figures that are maxima or absolute values only grow by the noise that resampling adds: those of the
resamples are moved to where their mean is the figure of the images themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.tasks import Task
from training.metrics import AVERAGED, CALIBRATION_BINS
from training.sources import MISSING, Labels

RESAMPLES = 200
LEVEL = 0.95

_GROW_BY_NOISE = ("majority", "ece", "rate_error")

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
Interval = tuple[float, float]
Figures = Mapping[str, Doubles]
"""By name of training.metrics.AVERAGED: one value per column of counts, NaN where there is none."""


@dataclass(frozen=True)
class Intervals:
    """Of every figure in training.metrics.AVERAGED; None where no resample has it."""

    resamples: int
    tasks: dict[str, dict[str, Interval | None]]
    groups: dict[str, dict[str, Interval | None]]
    macro: dict[str, Interval | None]

    def to_json(self) -> dict[str, Any]:
        return {
            "level": LEVEL,
            "resamples": self.resamples,
            "macro": self.macro,
            "groups": self.groups,
            "tasks": self.tasks,
        }


def bootstrap(
    tasks: Sequence[Task],
    probabilities: Sequence[Floats],
    labels: Labels,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Intervals:
    """Intervals of tasks', groups' and all tasks' figures.

    Args:
        probabilities: per task [N] of P(classes[1]) where it is binary, else [N, classes].
        labels: [N, T], class index or MISSING.
    """
    drawn = resample_counts(len(labels), resamples, seed)
    counts = np.concatenate([np.ones_like(drawn[:, :1]), drawn], axis=1)  # first, each image once
    figures = {
        task.name: resampled_figures(task, probabilities[index], labels[:, index], counts)
        for index, task in enumerate(tasks)
    }
    members: dict[str, list[Figures]] = {}
    for task in tasks:
        members.setdefault(task.group, []).append(figures[task.name])
    return Intervals(
        resamples,
        {name: _intervals(one) for name, one in figures.items()},
        {name: _intervals(_mean_figures(several)) for name, several in members.items()},
        _intervals(_mean_figures(figures.values())),
    )


def resample_counts(images: int, resamples: int, seed: int) -> Floats:
    """How often each resample has each image: [images, resamples], columns sum to ``images``."""
    if not images:
        return np.zeros((0, resamples), np.float32)
    drawn = np.random.default_rng(seed).integers(0, images, (images, resamples))
    places = drawn * resamples + np.arange(resamples)
    counts = np.bincount(places.ravel(), minlength=images * resamples)
    return counts.reshape(images, resamples).astype(np.float32)


def resampled_figures(
    task: Task, probabilities: Floats, labels: Labels, counts: Floats
) -> dict[str, Doubles]:
    """The figures of :func:`training.metrics.task_figures` for each column of ``counts`` [N, R].

    NaN where a resample lacks what a figure needs: a label at all, or two classes.
    """
    observed = labels != MISSING
    scores, target, weights = probabilities[observed], labels[observed], counts[observed]
    classes = [target == label for label in range(len(task.classes))]
    per_class = _totals(classes, weights)  # [classes, R]
    total = per_class.sum(axis=0)
    known = np.where(total > 0, 1.0, np.nan)
    both = np.where((per_class > 0).sum(axis=0) > 1, 1.0, np.nan)
    if task.is_binary:
        figures = _binary(task, scores, classes[1], weights)
    else:
        figures = _multiclass(scores, classes, weights)
    figures["majority"] = _share(per_class.max(axis=0), total)
    needs_one_class = ("majority", "accuracy", "accuracy_at_half", "ece", "rate_error")
    absent = np.full(len(total), np.nan)
    return {
        name: figures.get(name, absent) * (known if name in needs_one_class else both)
        for name in AVERAGED
    }


def _binary(task: Task, scores: Floats, positive: Flags, weights: Floats) -> dict[str, Doubles]:
    at_threshold = _decisions(scores >= task.threshold, positive, weights)
    at_half = _decisions(scores >= 0.5, positive, weights)
    error = scores - positive
    mean_error = error @ weights / np.maximum(weights.sum(axis=0), 1)
    return {
        **at_threshold,
        "accuracy_at_half": at_half["accuracy"],
        "balanced_accuracy_at_half": at_half["balanced_accuracy"],
        **_ranking(scores, positive, weights),
        "ece": _calibration_error(scores, positive, weights),
        "rate_error": np.abs(mean_error).astype(np.float64),
    }


def _multiclass(scores: Floats, classes: Sequence[Flags], weights: Floats) -> dict[str, Doubles]:
    """Means over the classes that a resample has."""
    said = scores.argmax(axis=1) if len(scores) else np.zeros(0, np.int64)
    one_vs_rest = []
    for label, positive in enumerate(classes):
        figures = _decisions(said == label, positive, weights)
        figures |= _ranking(scores[:, label], positive, weights)
        occurs = np.where(positive @ weights > 0, 1.0, np.nan)
        one_vs_rest.append({name: values * occurs for name, values in figures.items()})
    figures = {name: _nan_mean([one[name] for one in one_vs_rest]) for name in one_vs_rest[0]}
    right = np.zeros(len(scores), np.bool_)
    for label, positive in enumerate(classes):
        right |= positive & (said == label)
    best = scores.max(axis=1) if len(scores) else np.zeros(0, np.float32)
    return figures | {
        "accuracy": _share(_totals([right], weights)[0], weights.sum(axis=0)),
        "balanced_accuracy": figures["recall"],
        "ece": _calibration_error(best, right, weights),
    }


def _decisions(said: Flags, positive: Flags, weights: Floats) -> dict[str, Doubles]:
    true_yes, false_yes, yes, no = _totals(
        [said & positive, said & ~positive, positive, ~positive], weights
    )
    recall = _share(true_yes, yes)
    return {
        "accuracy": _share(true_yes + no - false_yes, yes + no),
        "precision": _share(true_yes, true_yes + false_yes),
        "recall": recall,
        "balanced_accuracy": (recall + _share(no - false_yes, no)) / 2,
        "f1": _share(2 * true_yes, true_yes + false_yes + yes),
    }


def _ranking(scores: Floats, positive: Flags, weights: Floats) -> dict[str, Doubles]:
    """Average precision and AUROC; images of equal score count as one step."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(ordered[1:] != ordered[:-1], True) if len(scores) else np.zeros(0, np.bool_)
    # float32 sums of counts are exact up to 2^24 images.
    drawn = weights[order]
    everything = drawn.cumsum(axis=0)[last].astype(np.float64)  # [levels, R]
    drawn *= positive[order, None]
    hits = drawn.cumsum(axis=0)[last].astype(np.float64)
    false = everything - hits
    hit_steps = np.diff(hits, axis=0, prepend=0)
    false_steps = np.diff(false, axis=0, prepend=0)
    yes, no = positive @ weights, ~positive @ weights
    precision = hits / np.maximum(everything, 1)
    return {
        "average_precision": _share((hit_steps * precision).sum(axis=0), yes),
        "auroc": _share((false_steps * (hits - hit_steps / 2)).sum(axis=0), yes * no),
    }


def _calibration_error(confidence: Floats, right: Flags, weights: Floats) -> Doubles:
    """Expected calibration error over bins of equal width, as torchmetrics computes it."""
    # Their very edges: NumPy rounds some of them otherwise.
    edges = torch.linspace(0, 1, CALIBRATION_BINS + 1).numpy()
    bins = np.digitize(confidence, edges) - 1
    inside = [np.where(bins == one, confidence - right, 0.0) for one in range(len(edges))]
    errors = np.stack(inside).astype(np.float32) @ weights  # [bins, R]
    return _share(np.abs(errors).sum(axis=0), weights.sum(axis=0))


def _totals(flags: Sequence[Flags], weights: Floats) -> Doubles:
    """Counted images of each kind: [kinds, R]."""
    totals: Doubles = (np.stack(flags).astype(np.float32) @ weights).astype(np.float64)
    return totals


def _share(part: NDArray[Any], whole: NDArray[Any]) -> Doubles:
    """0 of 0 is 0, as in torchmetrics."""
    share: Doubles = np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
    return share


def _mean_figures(several: Iterable[Figures]) -> dict[str, Doubles]:
    listed = list(several)
    return {name: _nan_mean([one[name] for one in listed]) for name in AVERAGED}


def _nan_mean(rows: Sequence[Doubles]) -> Doubles:
    """Mean over the rows that have a value; NaN where none has."""
    values = np.stack(rows)
    there = ~np.isnan(values)
    count = there.sum(axis=0)
    total = np.where(count > 0, np.where(there, values, 0).sum(axis=0), np.nan)
    mean: Doubles = total / np.maximum(count, 1)
    return mean


def _intervals(figures: Figures) -> dict[str, Interval | None]:
    return {name: _interval(figures[name], name in _GROW_BY_NOISE) for name in AVERAGED}


def _interval(values: Doubles, grows: bool) -> Interval | None:
    """From the figure of the images themselves, followed by those of the resamples."""
    present = values[1:][~np.isnan(values[1:])]
    if not len(present) or np.isnan(values[0]):
        return None
    if grows:
        present = (present + values[0] - present.mean()).clip(0, 1)
    low, high = np.quantile(present, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return round(float(low), 6), round(float(high), 6)
