"""A table of labels beside an image pack: ``pack:FILE.npz,labels=TABLE.csv``.

A header, and a row for each image in the pack's order; each column is a task, read as in
:mod:`training.sources.csv_table`: 0/1, yes/no and true/false are binary, anything else is one class
per value, and an empty cell is a missing label. Columns that name images or splits are left to the
pack; so are those in which hardly two images agree, such as a product's number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from model.tasks import Task
from training.errors import DataError
from training.sources.base import Labels
from training.sources.columns import encode
from training.sources.csv_table import NO_TASKS, inferred_task, read_table

GROUP = "label"
_DISTINCT = 0.5
"""Share of a column's cells from which on distinct values are taken for names of images."""


@dataclass(frozen=True)
class Columns:
    """Tasks of a table, and for each its labels [images]."""

    tasks: tuple[Task, ...] = ()
    labels: tuple[Labels, ...] = ()
    notes: tuple[str, ...] = ()


def read_columns(path: Path, images: int, given: Sequence[Task] = ()) -> Columns:
    """The tasks of the table at ``path``.

    Args:
        images: of the pack.
        given: tasks that are to have exactly these classes, in this order.

    Raises:
        DataError: a table that cannot be read, of another length, or with a cell of no class.
    """
    table = read_table(path, with_images=False)
    rows = len(table.lines)
    if rows != images:
        raise DataError(
            f"{path}: {rows} rows below the header for a pack of {images} images; it needs one for "
            "each, in the pack's order",
            path=str(path),
        )
    known = {task.name: task for task in given}
    tasks: list[Task] = []
    labels: list[Labels] = []
    notes: list[str] = []
    for name, cells in table.columns.items():
        if name in NO_TASKS:
            continue
        if name not in known and len(set(cells)) > max(2, _DISTINCT * rows):
            notes.append(f"column {name!r} left out: {len(set(cells))} values for {rows} images")
            continue
        task = known.get(name) or inferred_task(table, name)
        if task is None:
            notes.append(f"column {name!r} left out: fewer than two different values")
            continue
        task = task if name in known else task.model_copy(update={"group": GROUP})
        tasks.append(task)
        labels.append(encode(cells, task, partial(table.place, column=name)))
    return Columns(tuple(tasks), tuple(labels), tuple(notes))
