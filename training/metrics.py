"""Held-out figures of one task, by torchmetrics; what the data cannot say is None.

torchmetrics is imported where it is used: it takes seconds, which `--help` should not wait for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.tasks import Task
from training.sources import MISSING, Labels

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class TaskFigures:
    """Figures of one task over its observed labels.

    Precision, recall, F1 and average precision of a binary task are those of ``classes[1]``; of a
    multi-class task, means over the classes that occur. Those, like balanced accuracy and AUROC,
    are None where only one class occurs. ``accuracy``, ``precision``, ``recall``, ``f1`` and
    ``balanced_accuracy`` are at the task's threshold.
    """

    images: int
    """Observed labels."""
    positive_rate: float | None
    """Share of ``classes[1]``; None for multi-class tasks."""
    majority: float | None
    """Accuracy of always answering the most frequent class of these images."""
    accuracy: float | None
    accuracy_at_half: float | None
    """Binary tasks: accuracy at threshold 0.5."""
    precision: float | None
    recall: float | None
    balanced_accuracy: float | None
    balanced_accuracy_at_half: float | None
    """Binary tasks: balanced accuracy at threshold 0.5."""
    f1: float | None
    average_precision: float | None
    auroc: float | None
    ece: float | None
    """Expected calibration error over CALIBRATION_BINS bins: of P(classes[1]) for a binary task, of
    the likeliest class's probability otherwise."""
    rate_error: float | None
    """Binary tasks: how far the mean probability is from the share of ``classes[1]``."""
    threshold: float | None

    def to_json(self) -> dict[str, float | int | None]:
        return asdict(self)


# Means over tasks of these make the macro and group figures.
AVERAGED = (
    "majority",
    "accuracy",
    "accuracy_at_half",
    "precision",
    "recall",
    "balanced_accuracy",
    "balanced_accuracy_at_half",
    "f1",
    "average_precision",
    "auroc",
    "ece",
    "rate_error",
)

CALIBRATION_BINS = 15


def task_figures(task: Task, probabilities: Floats, labels: Labels) -> TaskFigures:
    """Figures of one task.

    Args:
        probabilities: [N] of P(classes[1]) for a binary task, else [N, classes].
        labels: [N], class index or MISSING.
    """
    observed = labels != MISSING
    scores = torch.from_numpy(np.ascontiguousarray(probabilities[observed]))
    target = torch.from_numpy(labels[observed].astype(np.int64))
    counts = torch.bincount(target, minlength=len(task.classes))
    both = int((counts > 0).sum()) > 1
    if task.is_binary:
        figures = _binary(scores, target, task.threshold) if both else {}
        said, at_half = scores >= task.threshold, scores >= 0.5
    else:
        figures = _multiclass(scores, target, counts > 0) if both else {}
        said = at_half = scores.argmax(dim=1) if len(scores) else target
    binary_only = task.is_binary and len(target) > 0
    return TaskFigures(
        images=len(target),
        positive_rate=_share(target == 1) if task.is_binary else None,
        majority=float(counts.max()) / len(target) if len(target) else None,
        accuracy=_share(said == target),
        accuracy_at_half=_share(at_half == target) if binary_only else None,
        precision=figures.get("precision"),
        recall=figures.get("recall"),
        balanced_accuracy=figures.get("balanced_accuracy"),
        balanced_accuracy_at_half=figures.get("balanced_accuracy_at_half"),
        f1=figures.get("f1"),
        average_precision=figures.get("average_precision"),
        auroc=figures.get("auroc"),
        ece=_calibration_error(task, scores, target) if len(target) else None,
        rate_error=abs(float(scores.mean() - (target == 1).float().mean()))
        if binary_only
        else None,
        threshold=task.threshold if task.is_binary else None,
    )


def mean_figures(figures: Iterable[TaskFigures]) -> dict[str, float | None]:
    """Means over the tasks for which a figure exists; None where it exists for none."""
    listed = list(figures)
    means: dict[str, float | None] = {}
    for name in AVERAGED:
        values = [value for one in listed if (value := getattr(one, name)) is not None]
        means[name] = float(np.mean(values)) if values else None
    return means


def group_figures(
    tasks: Sequence[Task], figures: Mapping[str, TaskFigures]
) -> dict[str, dict[str, float | None]]:
    """Mean figures of each task group, in order of first appearance."""
    groups = dict.fromkeys(task.group for task in tasks)
    return {
        group: mean_figures(figures[task.name] for task in tasks if task.group == group)
        for group in groups
    }


def _share(right: Tensor) -> float | None:
    return float(right.double().mean()) if len(right) else None


def _binary(scores: Tensor, target: Tensor, threshold: float) -> dict[str, float]:
    from torchmetrics.functional import classification as tm

    # torchmetrics calls a score above the threshold positive, we one at the threshold too.
    said, at_half = (scores >= threshold).long(), (scores >= 0.5).long()
    recall = float(tm.binary_recall(said, target))
    recall_at_half = float(tm.binary_recall(at_half, target))
    specificity_at_half = float(tm.binary_specificity(at_half, target))
    return {
        "precision": float(tm.binary_precision(said, target)),
        "recall": recall,
        "balanced_accuracy": (recall + float(tm.binary_specificity(said, target))) / 2,
        "balanced_accuracy_at_half": (recall_at_half + specificity_at_half) / 2,
        "f1": float(tm.binary_f1_score(said, target)),
        "average_precision": float(tm.binary_average_precision(scores, target)),
        "auroc": float(tm.binary_auroc(scores, target)),
    }


def _multiclass(scores: Tensor, target: Tensor, occurs: Tensor) -> dict[str, float]:
    """Means over the classes that occur: others have no recall and no average precision."""
    from torchmetrics.functional import classification as tm

    count = scores.shape[1]
    said = scores.argmax(dim=1)
    one_vs_rest = [
        (scores[:, index].contiguous(), (target == index).long())
        for index in occurs.nonzero().flatten().tolist()
    ]
    recall = tm.multiclass_recall(said, target, count, average="none")[occurs].mean()
    precision = tm.multiclass_precision(said, target, count, average="none")[occurs].mean()
    return {
        "precision": float(precision),
        "recall": float(recall),
        "balanced_accuracy": float(recall),
        "f1": float(tm.multiclass_f1_score(said, target, count, average="none")[occurs].mean()),
        "average_precision": _mean(tm.binary_average_precision(*pair) for pair in one_vs_rest),
        "auroc": _mean(tm.binary_auroc(*pair) for pair in one_vs_rest),
    }


def _calibration_error(task: Task, scores: Tensor, target: Tensor) -> float:
    from torchmetrics.functional import classification as tm

    if task.is_binary:
        return float(tm.binary_calibration_error(scores, target, CALIBRATION_BINS))
    classes = len(task.classes)
    return float(tm.multiclass_calibration_error(scores, target, classes, CALIBRATION_BINS))


def _mean(values: Iterable[Tensor]) -> float:
    return float(torch.stack(list(values)).mean())
