"""A prediction as the protocol's inference response: JSON, and what follows it as binary data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic_core import to_json

from model.tasks import Task, TaskSet
from service.core.decisions import Floats
from service.core.prediction import ImageAnswer, ImageFailure, Prediction
from service.core.selection import select_tasks
from service.http.oip.infer_input import InferInput, OutputForm
from service.http.oip.tensors import pack_bytes


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


def render_inference(
    prediction: Prediction, forms: Sequence[OutputForm], request_id: str | None
) -> tuple[bytes, int | None]:
    """The body, and the length of its JSON where binary data follow it.

    Every image of ``prediction`` must have been answered; ``forms`` are those of its tasks.
    """
    model = prediction.model
    answers = [image for image in prediction.images if isinstance(image, ImageAnswer)]
    probabilities = np.stack([answer.probabilities for answer in answers])  # [N, T, columns]
    outputs, chunks = [], []
    for position, (index, form) in enumerate(zip(prediction.tasks.tolist(), forms, strict=True)):
        task = model.tasks[index]
        output, chunk = _output(task, probabilities[:, position, : len(task.classes)], form)
        outputs.append(output)
        if chunk is not None:
            chunks.append(chunk)
    header = to_json(
        {
            "model_name": model.name,
            "model_version": str(model.version),
            **({} if request_id is None else {"id": request_id}),
            "parameters": {"digest": model.digest},
            "outputs": outputs,
        }
    )
    return b"".join([header, *chunks]), len(header) if chunks else None


def _output(task: Task, values: Floats, form: OutputForm) -> tuple[dict[str, Any], bytes | None]:
    """One output's JSON, and its data if they are to follow the JSON. ``values``: [N, classes]."""
    output: dict[str, Any] = {"name": form.name}
    if form.classification:
        strings = _classify(task, values, form.classification)
        output |= {"datatype": "BYTES", "shape": [len(strings), len(strings[0])]}
        texts = [string for row in strings for string in row]
        chunk = pack_bytes(texts) if form.binary else None
        data: list[Any] = texts
    else:
        output |= {"datatype": "FP32", "shape": list(values.shape)}
        data = values.ravel().tolist()
        chunk = values.astype("<f4").tobytes() if form.binary else None
    if chunk is None:
        output["data"] = data
    else:
        output["parameters"] = {"binary_data_size": len(chunk)}
    return output, chunk


def _classify(task: Task, values: Floats, best: int) -> list[list[str]]:
    """The likeliest ``best`` classes of each image as "probability:index:label", in order."""
    order = np.argsort(-values, axis=1, kind="stable")[:, :best]
    return [
        [f"{row[index]:.6f}:{index}:{task.classes[index]}" for index in chosen]
        for row, chosen in zip(values.tolist(), order.tolist(), strict=True)
    ]
