"""What every data source yields: tasks, labels, splits, and images that are decoded later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from model.tasks import Task, TaskSet
from training.errors import DataError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
MISSING = -1
"""The label of an image for a task nobody answered; never counted, never trained on."""

Labels = NDArray[np.int16]
Pixels = NDArray[np.uint8]


class Images(Protocol):
    """Encoded or raw images by position; nothing is decoded before ``read``."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What a person would call image ``index``: a file name, or a row number."""
        ...

    def read(self, index: int) -> bytes | Pixels:
        """The file's bytes, or raw pixels [h, w] or [h, w, 3]."""
        ...


@dataclass(frozen=True)
class SourceOptions:
    """What a reader may need beside its path."""

    split_seed: int = 0
    """Seed of splits that the data does not define itself."""
    tasks: tuple[Task, ...] = ()
    """Tasks a model already has: columns of these names are read with exactly their classes."""


@dataclass(frozen=True)
class Dataset:
    """A described, not yet decoded data set of N images and T tasks."""

    source: str
    """The SOURCE argument it came from."""
    digest: str
    """``sha256:...`` of everything that decides pixels and labels."""
    tasks: TaskSet
    labels: Labels  # [N, T], class index or MISSING
    split: NDArray[np.str_]  # [N], one of SPLITS
    images: Images
    notes: tuple[str, ...] = ()
    """What a person should know about how it was read, a sentence each."""

    def __post_init__(self) -> None:
        expected = (len(self.images), len(self.tasks))
        if self.labels.shape != expected or self.split.shape != expected[:1]:
            raise DataError(
                f"{self.source}: {expected[0]} images and {expected[1]} tasks, but labels of shape "
                f"{self.labels.shape} and {self.split.shape[0]} split entries"
            )

    def indices(self, split: Split) -> NDArray[np.int64]:
        """Positions of the images of one split."""
        return np.flatnonzero(self.split == split)

    def counts(self) -> dict[str, int]:
        """Number of images per split."""
        return {split: int((self.split == split).sum()) for split in SPLITS}

    def with_tasks(self, selectors: Sequence[str]) -> Dataset:
        """The same images with the selected tasks only (names, ``group:NAME``, ``*``; none: all).

        Raises:
            UnknownTaskError: a selector that names nothing here.
        """
        chosen = self.tasks.select(selectors)
        return replace(
            self,
            tasks=TaskSet(self.tasks[position] for position in chosen),
            labels=self.labels[:, chosen],
        )

    def aligned(self, tasks: TaskSet) -> Dataset:
        """The same images under a model's tasks: their order and classes; absent ones unlabelled.

        Raises:
            DataError: no task in common, or a label outside the model's classes.
        """
        shared = [task for task in tasks if task.name in self.tasks.names]
        if not shared:
            raise DataError(
                f"no tasks left: {self.source} has {_some(self.tasks.names)}, the model answers "
                f"{_some(tasks.names)}, and no name is in both"
            )
        labels = np.full((len(self.images), len(tasks)), MISSING, dtype=np.int16)
        for column, task in enumerate(tasks):
            if task in shared:
                labels[:, column] = self._recode(task)
        absent = [task.name for task in tasks if task not in shared]
        note = (f"without labels here: {_some(absent)}",) if absent else ()
        return replace(self, tasks=tasks, labels=labels, notes=self.notes + note)

    def _recode(self, task: Task) -> Labels:
        """Labels of the task with the same name, as indices into ``task.classes``."""
        column = self.tasks.position(task.name)
        own = self.tasks[column]
        table = np.full(len(own.classes) + 1, MISSING, dtype=np.int16)  # last entry: MISSING
        for position, name in enumerate(own.classes):
            if name in task.classes:
                table[position] = task.classes.index(name)
        before = self.labels[:, column]
        after = table[before]
        lost = np.flatnonzero((before != MISSING) & (after == MISSING))
        if lost.size:
            value = own.classes[before[lost[0]]]
            raise DataError(
                f"{self.source}: image {self.images.name(int(lost[0]))} has {value!r} for task "
                f"{task.name!r}, which is none of the model's classes: {_some(task.classes)}",
                task=task.name,
                value=value,
            )
        return after


def _some(names: Sequence[str], limit: int = 6) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
