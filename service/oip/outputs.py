"""A prediction as the protocol's output tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from model.tasks import Task, TaskSet
from service.core.decisions import Floats
from service.core.prediction import ImageAnswer, ImageFailure, Prediction
from service.core.selection import select_tasks
from service.oip.asked import InferInput, OutputForm
from service.oip.tensors import pack_bytes


@dataclass(frozen=True)
class OutputTensor:
    """One task's answers about all images."""

    form: OutputForm
    datatype: Literal["FP32", "BYTES"]
    shape: Sequence[int]  # [N, classes], or [N, k] for a classification
    values: Floats | Sequence[str]

    def data(self) -> list[Any]:
        """Flat, for JSON."""
        if isinstance(self.values, np.ndarray):
            return self.values.ravel().tolist()
        return list(self.values)

    def raw(self) -> bytes:
        """Binary data: little-endian, row-major; strings with their lengths."""
        if isinstance(self.values, np.ndarray):
            return self.values.astype("<f4").tobytes()
        return pack_bytes(self.values)


def choose_outputs(tasks: TaskSet, asked: InferInput) -> dict[int, OutputForm]:
    """Task indices in the order asked, each with the form its answers are wanted in.

    ``group:NAME`` and ``*`` stand for several tasks; a task that is reached twice is answered once,
    at its first place and in its first form.

    Raises:
        DuplicateTaskError, model.errors.UnknownTaskError: as in :func:`select_tasks`.
    """
    if asked.outputs is None:
        return {index: OutputForm(task.name, 0, asked.binary) for index, task in enumerate(tasks)}
    select_tasks(tasks, [output.name for output in asked.outputs])  # all that is wrong, at once
    chosen: dict[int, OutputForm] = {}
    for output in asked.outputs:
        for index in tasks.select([output.name]):
            chosen.setdefault(index, replace(output, name=tasks[index].name))
    return chosen


def raise_failures(prediction: Prediction) -> None:
    """An inference response has no place for one image's error: the first one fails them all."""
    for image in prediction.images:
        if isinstance(image, ImageFailure):
            raise image.error
        for error in image.row_errors.values():
            raise error


def output_tensors(prediction: Prediction, forms: Sequence[OutputForm]) -> list[OutputTensor]:
    """One for each task of ``prediction``, in the form of the same place in ``forms``.

    Every image must have been answered.
    """
    answers = [image for image in prediction.images if isinstance(image, ImageAnswer)]
    probabilities = np.stack([answer.probabilities for answer in answers])  # [N, T, columns]
    tasks = [prediction.model.tasks[index] for index in prediction.tasks.tolist()]
    return [
        _tensor(task, probabilities[:, position, : len(task.classes)], form)
        for position, (task, form) in enumerate(zip(tasks, forms, strict=True))
    ]


def _tensor(task: Task, values: Floats, form: OutputForm) -> OutputTensor:
    """``values``: [N, classes]."""
    if not form.classification:
        return OutputTensor(form, "FP32", values.shape, values)
    strings = _classify(task, values, form.classification)
    flat = [string for row in strings for string in row]
    return OutputTensor(form, "BYTES", [len(strings), len(strings[0])], flat)


def _classify(task: Task, values: Floats, best: int) -> list[list[str]]:
    """The likeliest ``best`` classes of each image as "probability:index:label", in order."""
    order = np.argsort(-values, axis=1, kind="stable")[:, :best]
    return [
        [f"{row[index]:.6f}:{index}:{task.classes[index]}" for index in chosen]
        for row, chosen in zip(values.tolist(), order.tolist(), strict=True)
    ]
