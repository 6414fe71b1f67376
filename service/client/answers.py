"""Answers as types. Fields that a newer server adds are let be."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Answered(_Part):
    """The answer to one task.

    A binary task's ``probability`` is that of its second class, whatever the label; it has a
    ``threshold``. A task of several classes has ``probabilities``, one for each.
    """

    task: str
    label: str
    probability: float
    calibrated: bool
    threshold: float | None = None
    probabilities: dict[str, float] | None = None


class TaskFailed(_Part):
    """Why one task of an image could not be answered, although others were."""

    task: str
    error: str
    code: str
    details: dict[str, Any] = Field(default_factory=dict)


class ImageAnswer(_Part):
    """Answers about one image, in the order asked."""

    id: str
    predictions: list[Answered | TaskFailed]

    def __getitem__(self, task: str) -> Answered | TaskFailed:
        """The answer to one task.

        Raises:
            KeyError: the task was not asked.
        """
        for found in self.predictions:
            if found.task == task:
                return found
        raise KeyError(task)


class ImageFailed(_Part):
    """Why there are no answers about one image."""

    id: str
    error: str
    code: str
    details: dict[str, Any] = Field(default_factory=dict)


class ModelAsked(_Part):
    """Exactly which model answered."""

    name: str
    version: int
    digest: str


class TimingMs(_Part):
    """Where the server's time went, in milliseconds."""

    decode: float
    queue: float
    compute: float


class Answer(_Part):
    """Everything one request was answered, images in the order given."""

    request_id: str
    model: ModelAsked
    images: list[ImageAnswer | ImageFailed] = Field(alias="results")
    timing_ms: TimingMs


class TaskAsked(_Part):
    """One task of the catalogue."""

    name: str
    group: str
    description: str = ""
    classes: list[str]
    threshold: float | None = None
    calibrated: bool


class Catalogue(_Part):
    """What can be asked."""

    model: ModelAsked
    tasks: list[TaskAsked]
    groups: dict[str, list[str]]
