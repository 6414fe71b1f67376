"""Tasks and labels derived from one class index per image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.tasks import Task
from training.sources.base import MISSING, Labels

CATEGORY = "category"
CLASS_GROUP = "class"


def one_vs_rest(classes: Sequence[str]) -> list[Task]:
    """One binary task for each class: the paper's way of making many tasks of one label."""
    return [
        Task(name=name, group=CLASS_GROUP, description=f"is it {name}, and none of the others?")
        for name in classes
    ]


def category(classes: Sequence[str]) -> Task:
    """The whole label as one multi-class task."""
    return Task(
        name=CATEGORY,
        group=CATEGORY,
        description=f"which of {len(classes)} classes is it?",
        classes=tuple(classes),
    )


def members(y: NDArray[np.int16], positive: Sequence[int]) -> Labels:
    """Binary labels [N]: whether y is one of ``positive``; missing where y is."""
    labels = np.isin(y, positive).astype(np.int16)
    return np.where(y == MISSING, np.int16(MISSING), labels)
