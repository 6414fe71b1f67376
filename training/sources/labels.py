"""Tasks and labels derived from lists of attributes, or from one class index per image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from model.errors import ConfigError
from model.tasks import Task, TaskSet
from training.errors import DataError
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


def refusal(error: ValidationError | ConfigError) -> str:
    """Why there can be no such task, for a person who named it or its classes."""
    if isinstance(error, ConfigError):
        return error.message
    first = error.errors()[0]
    if first["type"] == "string_pattern_mismatch":
        return (
            f"{first['input']!r} is no name: no comma, star or control character may be in it, and "
            "no space at either end"
        )
    return str(first["msg"]).removeprefix("Value error, ")


def binary_tasks(names: Sequence[str], groups: Sequence[str], source: str) -> TaskSet:
    """One yes/no task for each attribute.

    Raises:
        DataError: no attributes, one listed twice, or one that cannot name a task.
    """
    try:
        return TaskSet(
            Task(name=name, group=group) for name, group in zip(names, groups, strict=True)
        )
    except (ValidationError, ConfigError) as error:
        raise DataError(f"{source}: its attributes cannot be tasks: {refusal(error)}") from error
