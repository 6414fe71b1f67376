"""What the calibrations of many tasks of one network have in common, learnt from all their labels.

Tasks of one network have had the same training and are off in much the same way, while the
validation labels of each say little about its own two numbers. So the scale and the offset of a
task are taken as drawn from normal distributions over tasks, whose means and spreads are those
under which the labels of all tasks are likeliest (empirical Bayes: Efron and Morris, "Data analysis
using Stein's estimator and its generalizations", 1975; here by expectation maximisation). Where
tasks hardly differ, each is calibrated by the labels of all; where they differ, by its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

FEWEST_TASKS = 8
"""With fewer, how much tasks differ cannot be told."""
_LEAST_SPREAD = 0.01
"""In a logit's units, far below what anyone could notice; no prior is infinitely sure."""
_ITERATIONS, _TOLERANCE = 500, 1e-4


@dataclass(frozen=True)
class Prior:
    """Normal, of (scale, shift)."""

    mean: Doubles  # [2]
    precision: Doubles  # [2, 2]


@dataclass(frozen=True)
class Evidence:
    """What one task's labels say about its (scale, shift): a normal likelihood."""

    precision: Doubles  # [2, 2]
    weighted: Doubles  # [2], precision @ likeliest values
    centre: float
    """The logit about which the labels' evidence on scale and on offset is independent."""


def evidence(fitted: Doubles, curvature: Doubles, prior: Prior) -> Evidence:
    """The likelihood alone, from a fit of (scale, shift) under ``prior`` and its curvature there.

    Args:
        fitted: [2], the minimum of the penalised loss.
        curvature: [2, 2], of the penalised loss at ``fitted``.
    """
    precision = curvature - prior.precision
    # d2/dscale dshift over d2/dshift2: the logit's mean, each image weighing p (1 - p).
    centre = precision[0, 1] / precision[1, 1] if precision[1, 1] > 0 else 0.0
    weighted = curvature @ fitted - prior.precision @ prior.mean
    return Evidence(precision, weighted, float(centre))


def shared_priors(tasks: Sequence[Evidence], start: Prior) -> list[Prior]:
    """Each task's prior, from the labels of all of them.

    The offset of a task is how far its logits are moved at its centre: shift + (scale - 1) centre.

    Args:
        start: where the search for means and spreads begins; diagonal.
    """
    # (scale, offset + centre) = turn @ (scale, shift), so that scale 1 with shift 0 is offset 0.
    turns = np.array([[[1.0, 0.0], [one.centre, 1.0]] for one in tasks])
    centres = np.array([[0.0, one.centre] for one in tasks])
    back = np.linalg.inv(turns)
    precisions = np.array([one.precision for one in tasks])
    precisions = back.transpose(0, 2, 1) @ precisions @ back
    weighted = np.einsum("tji,tj->ti", back, np.array([one.weighted for one in tasks]))
    weighted = weighted - np.einsum("tij,tj->ti", precisions, centres)  # of (scale, offset)

    mean, spread = start.mean, np.diag(start.precision) ** -0.5
    for _ in range(_ITERATIONS):
        before = np.concatenate([mean, spread])
        covariance = np.linalg.inv(precisions + np.diag(spread**-2))
        means = np.einsum("tij,tj->ti", covariance, weighted + mean * spread**-2)
        mean = means.mean(axis=0)
        variance = ((means - mean) ** 2 + covariance.diagonal(axis1=1, axis2=2)).mean(axis=0)
        spread = np.maximum(np.sqrt(variance), _LEAST_SPREAD)
        if np.abs(np.concatenate([mean, spread]) - before).max() < _TOLERANCE:
            break
    precision = np.diag(spread**-2)
    return [
        Prior(inverse @ (mean + centre), turn.T @ precision @ turn)
        for inverse, centre, turn in zip(back, centres, turns, strict=True)
    ]
