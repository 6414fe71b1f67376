"""Logits of many rows to probabilities and labels at once.

The same decisions as :mod:`model.decision` (a test holds the two together), computed over whole
arrays: one request may ask for thousands of rows, and a Python loop over them would compete with
the engine.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model.tasks import TaskSet

Floats = npt.NDArray[np.float64]
Logits = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# float32 carries about seven digits; more would only lengthen answers.
_DECIMALS = 7


class DecisionTable:
    """Calibration, classes and thresholds of a model's tasks as arrays; one per loaded model."""

    def __init__(self, tasks: TaskSet) -> None:
        self._scale = np.array([task.calibration.scale for task in tasks])
        self._shift = np.array([task.calibration.shift for task in tasks])
        self._threshold = np.array([task.threshold for task in tasks])
        self.binary: Flags = np.array([task.is_binary for task in tasks])
        self.columns = int(max(len(task.classes) for task in tasks))
        self._real: Flags = np.array(  # [T, max_outputs]
            [[column < task.outputs for column in range(tasks.max_outputs)] for task in tasks]
        )

    def faulty_rows(self, task_index: Indices, logits: Logits) -> Indices:
        """Rows with NaN or infinity among the outputs that their task really has."""
        return np.flatnonzero((~np.isfinite(logits) & self._real[task_index]).any(axis=1))

    def probabilities(self, task_index: Indices, logits: Logits) -> Floats:
        """Calibrated probability of every class: [R, columns], zero beyond a task's classes.

        A binary task has P(classes[1]) in column 1.
        """
        scale, shift = self._scale[task_index, None], self._shift[task_index, None]
        scaled = logits.astype(np.float64) * scale + shift  # [R, max_outputs]
        binary = self.binary[task_index]
        found = np.zeros((len(task_index), self.columns))
        yes = np.round(_sigmoid(scaled[binary, 0]), _DECIMALS)
        found[binary, 1] = yes
        found[binary, 0] = np.round(1.0 - yes, _DECIMALS)
        if not binary.all():
            many = scaled[~binary]
            powers = np.exp(many - many.max(axis=1, keepdims=True))
            share = powers / powers.sum(axis=1, keepdims=True)
            found[~binary, : share.shape[1]] = np.round(share, _DECIMALS)
        return found

    def labels(self, task_index: Indices, probabilities: Floats) -> Indices:
        """Index of the class that is said: by threshold for binary tasks, else the likeliest."""
        said_yes = probabilities[:, 1] >= self._threshold[task_index]
        return np.where(
            self.binary[task_index], said_yes.astype(np.int64), probabilities.argmax(axis=1)
        )


def _sigmoid(logits: Floats) -> Floats:
    # exp of a negative number only, so that no logit overflows.
    small = np.exp(-np.abs(logits))
    found: Floats = np.where(logits >= 0, 1.0, small) / (1.0 + small)
    return found
