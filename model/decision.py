"""From logits to what a caller reads: calibrated probability, label, threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.tasks import Task

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Answer:
    """One task's answer about one image."""

    task: str
    label: str
    probability: float  # binary: P(classes[1]) whatever the label; multi-class: P(label)
    threshold: float | None  # None for multi-class tasks
    calibrated: bool
    probabilities: dict[str, float] | None  # multi-class: every class; None for binary tasks


def probabilities(task: Task, logits: Floats) -> Floats:
    """Calibrated probabilities from raw logits of one task.

    ``logits``: [..., outputs]; columns beyond the task's outputs are ignored. Returns [...] of
    P(classes[1]) for a binary task, [..., classes] otherwise.
    """
    calibration = task.calibration
    scaled = logits[..., : task.outputs].astype(np.float64) * calibration.scale + calibration.shift
    if task.is_binary:
        # exp of a negative number only, so that no logit overflows.
        logit = scaled[..., 0]
        small = np.exp(-np.abs(logit))
        return (np.where(logit >= 0, 1.0, small) / (1.0 + small)).astype(np.float32)
    shifted = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    normalised: Floats = (shifted / shifted.sum(axis=-1, keepdims=True)).astype(np.float32)
    return normalised


def answer(task: Task, logits: Floats) -> Answer:
    """The answer for one row: ``logits`` [max_outputs], padded beyond the task's outputs."""
    scores = probabilities(task, logits)
    if task.is_binary:
        probability = float(scores)
        label = task.classes[1] if probability >= task.threshold else task.classes[0]
        return Answer(task.name, label, probability, task.threshold, task.calibrated, None)
    best = int(scores.argmax())
    by_class = dict(zip(task.classes, map(float, scores), strict=True))
    return Answer(
        task.name, task.classes[best], float(scores[best]), None, task.calibrated, by_class
    )
