"""Tasks: one question about an image each, and the ordered set of them that a model answers."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Literal, overload

from pydantic import BaseModel, ConfigDict, Field, model_validator

from model.errors import ConfigError, UnknownTaskError

BINARY_CLASSES = ("no", "yes")
GROUP_PREFIX = "group:"
ALL_TASKS = "*"

# Names travel in query strings as comma-separated lists and in metric labels: no comma, no star, no
# control character, no space at either end.
TaskName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        pattern=r"^[^,*\s\x00-\x1f\x7f]([^,*\x00-\x1f\x7f]*[^,*\s\x00-\x1f\x7f])?$",
    ),
]
ClassName = Annotated[str, Field(min_length=1, max_length=200)]
Deviation = Annotated[float, Field(gt=0.0)]

# A request may name any number of unknown tasks; looking for near names costs time for each.
_HINTED = 10


class Calibration(BaseModel):
    """Calibrated logit = ``scale * logit + shift`` (Platt scaling; temperature = 1/scale)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["none", "platt", "temperature"] = "none"
    scale: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    shift: float = Field(default=0.0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _of_its_method(self) -> Calibration:
        """Readers apply scale and shift whatever the method, so they must mean what it says."""
        if self.method == "none" and (self.scale, self.shift) != (1.0, 0.0):
            raise ValueError(
                f"calibration method 'none' with scale {self.scale:g} and shift {self.shift:g}; "
                "it has scale 1 and shift 0, or another method"
            )
        if self.method == "temperature" and self.shift != 0.0:
            raise ValueError(
                f"calibration method 'temperature' with shift {self.shift:g}; only 'platt' shifts"
            )
        return self


class Normalisation(BaseModel):
    """Per channel, of pixel values scaled to 0..1."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mean: tuple[float, float, float]
    std: tuple[Deviation, Deviation, Deviation]


class Task(BaseModel):
    """One question about an image.

    Two classes make a binary task with one logit, that of ``classes[1]``; more classes make a
    multi-class task with one logit each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: TaskName
    group: TaskName = "default"
    description: str = ""
    classes: tuple[ClassName, ...] = BINARY_CLASSES
    threshold: float = Field(
        default=0.5, ge=0.0, le=1.0, description="binary tasks: P(classes[1]) from which it is said"
    )
    calibrated: bool = False
    calibration: Calibration = Calibration()
    normalisation: Normalisation | None = Field(
        default=None,
        description="of the images of the task's own domain, where a model has several; null: that "
        "of the model's preprocessing",
        exclude_if=lambda own: own is None,  # bundles without stay readable by earlier versions
    )

    @model_validator(mode="after")
    def _unambiguous(self) -> Task:
        if self.name.startswith(GROUP_PREFIX):
            raise ValueError(
                f"task {self.name!r} would be taken for a group: a name cannot begin with "
                f"{GROUP_PREFIX!r}"
            )
        return self

    @model_validator(mode="after")
    def _distinct_classes(self) -> Task:
        if len(self.classes) < 2:
            raise ValueError(
                f"task {self.name!r} has {len(self.classes)} class; it needs at least two"
            )
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"task {self.name!r} names a class twice: {', '.join(self.classes)}")
        return self

    @property
    def is_binary(self) -> bool:
        return len(self.classes) == 2

    @property
    def outputs(self) -> int:
        """Number of logits: 1 for a binary task, one per class otherwise."""
        return 1 if self.is_binary else len(self.classes)


class TaskSet(Sequence[Task]):
    """The ordered tasks of one model; a task's position is its task index everywhere."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        """Raises ConfigError for an empty set or a name that occurs twice."""
        self._tasks = tuple(tasks)
        self._index = {task.name: position for position, task in enumerate(self._tasks)}
        if not self._tasks:
            raise ConfigError("no tasks: a model needs at least one")
        if len(self._index) != len(self._tasks):
            counts = Counter(task.name for task in self._tasks)
            twice = [name for name, count in counts.items() if count > 1]
            raise ConfigError(f"task names occur twice: {', '.join(twice)}", tasks=twice)
        self._groups: dict[str, list[int]] = {}
        for position, task in enumerate(self._tasks):
            self._groups.setdefault(task.group, []).append(position)
        self.max_outputs = max(task.outputs for task in self._tasks)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Task, ...]: ...
    def __getitem__(self, index: int | slice) -> Task | tuple[Task, ...]:
        return self._tasks[index]

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._index)

    @property
    def groups(self) -> dict[str, list[int]]:
        """Task indices by group, in order of first appearance."""
        return {group: list(members) for group, members in self._groups.items()}

    def position(self, name: str) -> int:
        """Index of the task called ``name``; UnknownTaskError otherwise."""
        try:
            return self._index[name]
        except KeyError:
            raise self._unknown([name]) from None

    def select(self, selectors: Sequence[str]) -> list[int]:
        """Task indices for names, ``group:NAME`` and ``*``, in the order asked, each once.

        No selector means every task.

        Raises:
            UnknownTaskError: naming every unknown selector with its nearest names.
        """
        if not selectors:
            return list(range(len(self._tasks)))
        chosen: dict[int, None] = {}
        unknown: dict[str, None] = {}
        for selector in selectors:
            found = self._find(selector)
            if found is None:
                unknown[selector] = None
            else:
                chosen.update(dict.fromkeys(found))
        if unknown:
            raise self._unknown(list(unknown))
        return list(chosen)

    def _find(self, selector: str) -> Sequence[int] | None:
        if selector in self._index:
            return [self._index[selector]]
        if selector == ALL_TASKS:
            return range(len(self._tasks))
        if selector.startswith(GROUP_PREFIX):
            return self._groups.get(selector.removeprefix(GROUP_PREFIX))
        return None

    def _unknown(self, names: Sequence[str]) -> UnknownTaskError:
        candidates = [*self._index, *(GROUP_PREFIX + group for group in self._groups)]
        nearest = {
            name: difflib.get_close_matches(name[:200], candidates, n=3, cutoff=0.5)
            for name in names[:_HINTED]
        }
        return UnknownTaskError(names, nearest)
