"""``csv:FILE.csv``: your own images and attributes.

A column ``image`` (a path relative to the file), optionally ``split`` (train, val, test), and one
column per task: 0/1, yes/no or true/false make a binary task, anything else a task with one class
per value. An empty cell is a missing label.

A column ``split_group`` says what must not be on two sides of a split: the person, species or
product in the image. A drawn split keeps its values together, one of the table's own is checked.

Beside ``FILE.csv`` an optional ``FILE.tasks.toml`` says more about columns, a table each::

    [garment]
    group = "what"
    description = "which garment is it?"
    classes = ["Dress", "Shirt"]      # in this order; any other value in the column is an error
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from model.tasks import Task, TaskSet
from training.errors import DataError
from training.sources.base import SPLITS, Dataset, Labels, SourceOptions
from training.sources.columns import encode, infer_task
from training.sources.digests import files_digest
from training.sources.images import FileImages
from training.sources.labels import refusal
from training.sources.registry import SourceKind
from training.sources.splits import check_groups_whole, draw_split, split_keys, with_val

IMAGE_COLUMN = "image"
SPLIT_COLUMN = "split"
SPLIT_GROUP_COLUMN = "split_group"
NO_TASKS = (IMAGE_COLUMN, SPLIT_COLUMN, SPLIT_GROUP_COLUMN)
GROUP = "default"
_SHOWN = 200
"""Characters of a cell that a message repeats."""


def read_csv(argument: str, options: SourceOptions) -> Dataset:
    """The data set in the CSV file at path ``argument``; DataError names file, row and column."""
    path = Path(argument)
    table = read_table(path)
    images = _images(table)
    described = _described_tasks(path, table)
    given = {**described, **{task.name: task for task in options.tasks}}
    tasks, labels, notes = _tasks(table, given)
    split, split_notes = _split(table, options.split_seed)
    return Dataset(
        source=f"csv:{argument}",
        digest=files_digest(_table_files(path), images.paths()),
        tasks=tasks,
        labels=labels,
        split=split,
        images=images,
        notes=notes + split_notes,
    )


@dataclass(frozen=True)
class Table:
    """The cells of a CSV file by column, white space around them removed."""

    path: Path
    columns: Mapping[str, Sequence[str]]
    lines: Sequence[int]
    """Line in the file of each row, for messages."""

    def place(self, row: int, column: str) -> str:
        return f"{self.path}, line {self.lines[row]}, column {column!r}"


def read_table(path: Path, with_images: bool = True) -> Table:
    """Every cell of the file.

    Args:
        with_images: whether there must be a column that names images.

    Raises:
        DataError: missing or unreadable file, wrong header, a row of another length, no rows.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            _check_header(path, header, with_images)
            rows: list[list[str]] = []
            lines: list[int] = []
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise DataError(
                        f"{path}, line {reader.line_num}: {len(row)} cells, but the header has "
                        f"{len(header)} columns",
                        line=reader.line_num,
                    )
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", path=str(path)) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8: {error}", path=str(path)) from error
    if not rows:
        raise DataError(f"{path}: no rows below the header", path=str(path))
    columns = {name: [row[index] for row in rows] for index, name in enumerate(header)}
    return Table(path, columns, lines)


def _check_header(path: Path, header: Sequence[str], with_images: bool) -> None:
    if with_images and IMAGE_COLUMN not in header:
        raise DataError(
            f"{path}: no column {IMAGE_COLUMN!r} in the header; it has "
            f"{', '.join(map(repr, header)) or 'nothing'}",
            columns=list(header),
        )
    twice = sorted({name for name in header if header.count(name) > 1})
    if "" in header or twice:
        what = f"column {twice[0]!r} occurs twice" if twice and twice[0] else "a column has no name"
        raise DataError(f"{path}: {what}; the header is {', '.join(map(repr, header))}")


def _images(table: Table) -> FileImages:
    """The named files, every one of which must exist."""
    images = FileImages(table.path.parent, table.columns[IMAGE_COLUMN])
    for row, (name, path) in enumerate(zip(images.names, images.paths(), strict=True)):
        try:
            problem = "" if path.is_file() else f"there is no file {path}"
        except OSError as error:  # no path at all, such as an image's own bytes as text
            problem = f"{name[:_SHOWN]!r}...: {error.strerror}"
        if not name or problem:
            problem = problem if name else "the cell is empty"
            raise DataError(f"{table.place(row, IMAGE_COLUMN)}: {problem}", image=name[:_SHOWN])
    return images


def _tasks(table: Table, given: Mapping[str, Task]) -> tuple[TaskSet, Labels, tuple[str, ...]]:
    tasks: list[Task] = []
    columns: list[Labels] = []
    useless: list[str] = []
    for name, cells in table.columns.items():
        if name in NO_TASKS:
            continue
        task = given.get(name) or inferred_task(table, name)
        if task is None:
            useless.append(name)
            continue
        tasks.append(task)
        columns.append(encode(cells, task, partial(table.place, column=name)))
    if not tasks:
        reason = f"; only one value or none in {', '.join(useless)}" if useless else ""
        raise DataError(
            f"{table.path}: no tasks left: beside {', '.join(map(repr, NO_TASKS))} it needs a "
            f"column of labels for each task{reason}"
        )
    notes = tuple(f"column {name!r} left out: fewer than two different values" for name in useless)
    return TaskSet(tasks), np.stack(columns, axis=1), notes


def inferred_task(table: Table, name: str) -> Task | None:
    """The task of a column; None where nothing can be learnt from it.

    Raises:
        DataError: cells of no one kind, or a name that cannot be a task's.
    """
    try:
        return infer_task(name, table.columns[name], GROUP, str(table.path))
    except ValidationError as error:
        raise DataError(
            f"{table.path}: column {name!r} cannot be a task: {refusal(error)}",
            column=name,
        ) from error


def _split(table: Table, seed: int) -> tuple[NDArray[np.str_], tuple[str, ...]]:
    keys = split_keys(table.columns[IMAGE_COLUMN], table.columns.get(SPLIT_GROUP_COLUMN))
    by = f" by {SPLIT_GROUP_COLUMN}" if SPLIT_GROUP_COLUMN in table.columns else ""
    cells = table.columns.get(SPLIT_COLUMN)
    if cells is None:
        note = f"no split column: train, val, test drawn 80/10/10{by} (seed {seed})"
        return draw_split(keys, seed, str(table.path)), (note,)
    for row, cell in enumerate(cells):
        if cell not in SPLITS:
            raise DataError(
                f"{table.place(row, SPLIT_COLUMN)}: {cell!r} is none of {', '.join(SPLITS)}",
                value=cell,
            )
    if by:
        check_groups_whole(cells, keys, partial(table.place, column=SPLIT_COLUMN))
    return with_val(np.array(cells), keys, seed, str(table.path))


def _described_tasks(path: Path, table: Table) -> dict[str, Task]:
    """Tasks whose classes ``FILE.tasks.toml`` gives; others get its group and description only."""
    sidecar = path.with_suffix(".tasks.toml")
    if not sidecar.is_file():
        return {}
    try:
        entries: dict[str, Any] = tomllib.loads(sidecar.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{sidecar}: cannot be read: {error}", path=str(sidecar)) from error
    unknown = sorted(entries.keys() - table.columns.keys())
    if unknown:
        raise DataError(f"{sidecar}: [{unknown[0]}] names no column of {path}", column=unknown[0])
    return {name: _described(sidecar, table, name, entry) for name, entry in entries.items()}


def _described(sidecar: Path, table: Table, name: str, entry: Any) -> Task:
    allowed = {"group", "description", "classes"}
    if not isinstance(entry, dict) or entry.keys() - allowed:
        raise DataError(
            f"{sidecar}: [{name}] may hold {', '.join(sorted(allowed))} only", column=name
        )
    fields = dict(entry)
    if "classes" not in fields:
        inferred = inferred_task(table, name)
        if inferred is None:
            raise DataError(
                f"{sidecar}: [{name}] needs `classes`: its column has fewer than two values"
            )
        fields["classes"] = inferred.classes
    try:
        return Task.model_validate({"name": name, **fields})
    except ValidationError as error:
        raise DataError(f"{sidecar}: [{name}]: {refusal(error)}", column=name) from error


def _table_files(path: Path) -> list[Path]:
    """The CSV file, and its tasks file where there is one."""
    return [path, *(file for file in (path.with_suffix(".tasks.toml"),) if file.is_file())]


KIND = SourceKind("csv", "FILE.csv", "your own images and attributes", read_csv)
