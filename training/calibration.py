"""Probabilities that mean what they say: logits scaled and shifted as validation labels want it.

Platt scaling fits ``scale * logit + shift`` for a binary task, temperature scaling the scale alone
(Guo et al., "On Calibration of Modern Neural Networks", 2017, section 4). Both are drawn towards
the identity as by a normal prior, which many labels outvote and few do not: a task with three
positives moves a little, a task with three hundred as far as it has to. By Platt, the binary tasks
of a network of many are drawn to what they have in common instead, and as strongly as they have
(:mod:`training.shared_prior`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from model.decision import Floats
from model.tasks import Calibration, Task
from training.shared_prior import FEWEST_TASKS, Prior, evidence, shared_priors
from training.sources import MISSING, Labels

Method = Literal["none", "platt", "temperature"]

ENOUGH = 25
"""Labels of its rarest class from which a task is called calibrated."""
_SCALE_SPREAD, _SHIFT_SPREAD = 0.5, 1.0
"""Standard deviations of the priors around scale 1 and shift 0. A label near the threshold weighs
a quarter as much as a prior of spread 1."""
_LEAST_SCALE = 0.05
"""Zero or less would forget, or turn over, the order that the network gave."""
_ITERATIONS, _TOLERANCE = 100, 1e-9

_ALONE = Prior(np.array([1.0, 0.0]), np.diag([_SCALE_SPREAD**-2.0, _SHIFT_SPREAD**-2.0]))
"""Of a task that is calibrated by its own labels only."""

_Doubles = NDArray[np.float64]


def calibrated(
    tasks: Sequence[Task], logits: Sequence[Floats], labels: Labels, method: Method
) -> tuple[Task, ...]:
    """The tasks with calibrations fitted on validation images; as they are for method "none".

    Args:
        logits: one [N, outputs] per task, of the network itself.
        labels: [N, T].
    """
    if method == "none":
        return tuple(tasks)
    priors = _priors(tasks, logits, labels) if method == "platt" else {}
    return tuple(
        _calibrated(task, logits[index], labels[:, index], method, priors.get(index, _ALONE))
        for index, task in enumerate(tasks)
    )


def _calibrated(task: Task, logits: Floats, labels: Labels, method: Method, prior: Prior) -> Task:
    observed, counts = _observed(task, labels)
    if (counts > 0).sum() < 2:
        return task  # one class alone says nothing about the other
    fitted = fit_calibration(logits[observed], labels[observed], method, prior)
    return task.model_copy(
        update={"calibration": fitted, "calibrated": bool(counts.min() >= ENOUGH)}
    )


def _priors(tasks: Sequence[Task], logits: Sequence[Floats], labels: Labels) -> Mapping[int, Prior]:
    """By index, of the binary tasks with labels of both classes; none where those are too few."""
    said = {}
    for index, task in enumerate(tasks):
        observed, counts = _observed(task, labels[:, index])
        if task.is_binary and counts.all():
            values, positive = logits[index][observed, 0], labels[observed, index] == 1
            loss = _binary_loss(values.astype(np.float64), positive, _ALONE)
            fitted = _minimum(*loss, _ALONE.mean, np.array([True, True]))
            said[index] = evidence(fitted, loss[1](fitted)[1], _ALONE)
    if len(said) < FEWEST_TASKS:
        return {}
    return dict(zip(said, shared_priors(list(said.values()), _ALONE), strict=True))


def _observed(task: Task, labels: Labels) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which labels [N] there are, and how many of each class."""
    observed = labels != MISSING
    return observed, np.bincount(labels[observed], minlength=len(task.classes))


def fit_calibration(
    logits: Floats, labels: Labels, method: Method, prior: Prior | None = None
) -> Calibration:
    """The scale, and for binary tasks by Platt the shift, with the least penalised log loss.

    A multi-class task has a temperature whatever the method: one shift for all classes is none.

    Args:
        logits: [N, outputs].
        labels: [N], class indices, none missing.
        prior: of a binary task; None: around the identity.
    """
    values = logits.astype(np.float64)
    if logits.shape[1] > 1:
        return Calibration(method="temperature", scale=_fit_classes(values, labels))
    with_shift = method == "platt"
    scale, shift = _fit_binary(values[:, 0], labels == 1, with_shift, prior or _ALONE)
    return Calibration(method="platt" if with_shift else "temperature", scale=scale, shift=shift)


def _fit_binary(
    logits: _Doubles, positive: NDArray[np.bool_], with_shift: bool, prior: Prior
) -> tuple[float, float]:
    """Newton's method on a convex function of (scale, shift)."""
    loss, derivatives = _binary_loss(logits, positive, prior)
    start = prior.mean if with_shift else _ALONE.mean
    found = _minimum(loss, derivatives, start, np.array([True, with_shift]))
    if found[0] < _LEAST_SCALE:
        held = np.array([_LEAST_SCALE, 0.0])
        found = _minimum(loss, derivatives, held, np.array([False, with_shift]))
    return float(found[0]), float(found[1])


def _binary_loss(
    logits: _Doubles, positive: NDArray[np.bool_], prior: Prior
) -> tuple[_Loss, _Derivatives]:
    """The penalised log loss of (scale, shift); its gradient [2] and curvature [2, 2]."""
    inputs = np.stack([logits, np.ones_like(logits)], axis=1)  # [N, 2]
    sign = np.where(positive, 1.0, -1.0)

    def loss(values: _Doubles) -> float:
        away = values - prior.mean
        penalty = 0.5 * away @ prior.precision @ away
        return float(np.logaddexp(0.0, -sign * (inputs @ values)).sum() + penalty)

    def derivatives(values: _Doubles) -> tuple[_Doubles, _Doubles]:
        # exp of a negative number only, so that no logit overflows.
        small = np.exp(-np.abs(inputs @ values))
        chance = np.where(inputs @ values >= 0, 1.0, small) / (1.0 + small)
        gradient = inputs.T @ (chance - positive) + prior.precision @ (values - prior.mean)
        weights = (chance * (1 - chance))[:, None]
        return gradient, (inputs * weights).T @ inputs + prior.precision

    return loss, derivatives


def _fit_classes(logits: _Doubles, labels: Labels) -> float:
    """Newton's method on a convex function of the scale, the inverse temperature."""
    logits = logits - logits.max(axis=1, keepdims=True)
    given = logits[np.arange(len(labels)), labels]
    precision = _SCALE_SPREAD**-2.0

    def loss(values: _Doubles) -> float:
        total = np.log(np.exp(logits * values[0]).sum(axis=1))
        penalty = 0.5 * precision * (values[0] - 1) ** 2
        return float((total - given * values[0]).sum() + penalty)

    def derivatives(values: _Doubles) -> tuple[_Doubles, _Doubles]:
        powers = np.exp(logits * values[0])
        chances = powers / powers.sum(axis=1, keepdims=True)
        mean = (chances * logits).sum(axis=1)
        spread = (chances * logits**2).sum(axis=1) - mean**2
        gradient = (mean - given).sum() + precision * (values[0] - 1)
        return np.array([gradient]), np.array([[spread.sum() + precision]])

    found = _minimum(loss, derivatives, np.ones(1), np.ones(1, np.bool_))
    return max(float(found[0]), _LEAST_SCALE)


class _Loss(Protocol):
    def __call__(self, values: _Doubles) -> float: ...


class _Derivatives(Protocol):
    def __call__(self, values: _Doubles) -> tuple[_Doubles, _Doubles]: ...


def _minimum(
    loss: _Loss, derivatives: _Derivatives, start: _Doubles, free: NDArray[np.bool_]
) -> _Doubles:
    """Newton steps in the ``free`` values, halved until the loss falls."""
    values, present = start, loss(start)
    for _ in range(_ITERATIONS):
        gradient, curvature = derivatives(values)
        step = np.zeros_like(values)
        step[free] = np.linalg.solve(curvature[np.ix_(free, free)], gradient[free])
        while loss(values - step) > present and np.abs(step).max() > _TOLERANCE:
            step = step / 2
        if np.abs(step).max() <= _TOLERANCE:
            break
        values = values - step
        present = loss(values)
    return values
