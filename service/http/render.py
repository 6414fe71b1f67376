"""Predictions as the JSON of ``POST /v1/predict``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json

from model.tasks import Task
from service.core.prediction import ImageAnswer, ImageFailure, Prediction
from service.http.errors import error_fields


def render_prediction(prediction: Prediction, request_id: str) -> bytes:
    """The response body; from plain dictionaries, because one answer may have thousands of rows."""
    model, timing = prediction.model, prediction.timing
    tasks = [model.tasks[index] for index in prediction.tasks.tolist()]
    return to_json(
        {
            "request_id": request_id,
            "model": {"name": model.name, "version": model.version, "digest": model.digest},
            "results": [_result(tasks, image) for image in prediction.images],
            "timing_ms": {
                "decode": round(timing.decode * 1000, 3),
                "queue": round(timing.queue * 1000, 3),
                "compute": round(timing.compute * 1000, 3),
            },
        }
    )


def _result(tasks: Sequence[Task], image: ImageAnswer | ImageFailure) -> dict[str, Any]:
    if isinstance(image, ImageFailure):
        return {"id": image.id, **error_fields(image.error)}
    rows = zip(tasks, image.probabilities.tolist(), image.labels.tolist(), strict=True)
    predictions = [_prediction(task, scores, said) for task, scores, said in rows]
    for position, error in image.row_errors.items():
        predictions[position] = {"task": tasks[position].name, **error_fields(error)}
    return {"id": image.id, "predictions": predictions}


def _prediction(task: Task, scores: Sequence[float], said: int) -> dict[str, Any]:
    classes = task.classes
    if len(classes) == 2:
        return {
            "task": task.name,
            "label": classes[said],
            "probability": scores[1],
            "threshold": task.threshold,
            "calibrated": task.calibrated,
        }
    return {
        "task": task.name,
        "label": classes[said],
        "probability": scores[said],
        "probabilities": dict(zip(classes, scores, strict=False)),
        "calibrated": task.calibrated,
    }
