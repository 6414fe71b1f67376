"""A column of text cells made into a task and its labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from model.tasks import BINARY_CLASSES, Task
from training.errors import DataError
from training.sources.base import MISSING, Labels

_WORDS = {"no": 0, "yes": 1, "false": 0, "true": 1}
_DIGITS = {"0": 0, "1": 1}


def infer_task(name: str, cells: Sequence[str], group: str, where: str) -> Task | None:
    """The task that a column of cells asks: 0/1, yes/no or true/false are binary, else categories.

    ``None`` when fewer than two different answers occur in a column of categories, or the column
    is empty: nothing can be learnt from it.

    Raises:
        DataError: yes/no mixed with other words, which is far more often a slip than a class.
    """
    values = sorted({cell for cell in cells if cell})
    lowered = {value.lower() for value in values}
    if not values:
        return None
    if lowered <= _WORDS.keys() or lowered <= _DIGITS.keys():
        return Task(name=name, group=group)
    stray = sorted(value for value in values if value.lower() not in {**_WORDS, **_DIGITS})
    if lowered & _WORDS.keys() or (lowered & _DIGITS.keys() and not _all_digits(values)):
        raise DataError(
            f"{where}: column {name!r} mixes yes/no answers with {_quoted(stray or values)}; "
            "correct those cells, or list the column's classes in the tasks file",
            column=name,
            values=(stray or values)[:10],
        )
    return Task(name=name, group=group, classes=tuple(values)) if len(values) > 1 else None


def encode(cells: Sequence[str], task: Task, place: Callable[[int], str]) -> Labels:
    """Class index of every cell [N]; an empty cell is MISSING.

    Args:
        place: names cell ``i`` for a person, used only in the error.

    Raises:
        DataError: a cell that is none of the task's classes.
    """
    known = {name: index for index, name in enumerate(task.classes)}
    binary = {**_WORDS, **_DIGITS} if task.classes == BINARY_CLASSES else {}
    labels = np.full(len(cells), MISSING, dtype=np.int16)
    for row, cell in enumerate(cells):
        if not cell:
            continue
        label = known.get(cell, binary.get(cell.lower()))
        if label is None:
            raise DataError(
                f"{place(row)}: {cell!r} is no class of task {task.name!r}; its classes are "
                f"{_quoted(task.classes)}",
                task=task.name,
                value=cell,
            )
        labels[row] = label
    return labels


def _all_digits(values: Sequence[str]) -> bool:
    return all(value.lstrip("-").isdigit() for value in values)


def _quoted(values: Sequence[str], limit: int = 8) -> str:
    more = f" and {len(values) - limit} more" if len(values) > limit else ""
    return ", ".join(map(repr, values[:limit])) + more
