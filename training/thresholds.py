"""One decision threshold per binary task, chosen on validation images."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.decision import Floats
from training.sources import MISSING, Labels

Objective = Literal["balanced_accuracy", "accuracy", "f0.5", "f0.7", "f1", "f2"]
"""``f`` and a number: F-beta, where recall weighs beta squared times as much as precision."""
DEFAULT = 0.5


def choose_threshold(probabilities: Floats, labels: Labels, objective: Objective) -> float:
    """The threshold with the best ``objective`` on observed labels; 0.5 where a class is absent.

    Candidates lie half-way between neighbouring probabilities, as far from any image as possible;
    of equally good ones the nearest to 0.5 is taken.

    Args:
        probabilities: [N] of P(classes[1]); an image is positive from the threshold up.
        labels: [N], 0, 1 or MISSING.
    """
    observed = labels != MISSING
    scores = probabilities[observed].astype(np.float64)
    positive = labels[observed] == 1
    if not positive.any() or positive.all():
        return DEFAULT
    # One candidate below each distinct score, so at least one image is always positive.
    levels, level = np.unique(scores, return_inverse=True)
    candidates = np.concatenate(([0.0], (levels[1:] + levels[:-1]) / 2))
    positives = np.bincount(level, weights=positive)
    negatives = np.bincount(level, weights=~positive)
    true_positive = positives[::-1].cumsum()[::-1]  # at or above each candidate
    false_positive = negatives[::-1].cumsum()[::-1]
    value = _value(objective, true_positive, false_positive, positives.sum(), negatives.sum())
    best = np.flatnonzero(value >= value.max() - 1e-12)
    chosen = candidates[best[np.abs(candidates[best] - DEFAULT).argmin()]]
    rounded = round(float(chosen), 6)
    # Not where that would say yes, or no, to every image.
    return rounded if 0.0 < rounded < 1.0 else float(chosen)


def _value(
    objective: Objective,
    true_positive: NDArray[np.float64],
    false_positive: NDArray[np.float64],
    positives: float,
    negatives: float,
) -> NDArray[np.float64]:
    true_negative = negatives - false_positive
    if objective == "accuracy":
        value = (true_positive + true_negative) / (positives + negatives)
    elif objective == "balanced_accuracy":
        value = (true_positive / positives + true_negative / negatives) / 2
    else:
        weight = float(objective.removeprefix("f")) ** 2
        value = (1 + weight) * true_positive / (true_positive + false_positive + weight * positives)
    return value
