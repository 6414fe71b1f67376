"""Output files: Parquet with a row for each image, or JSON lines with an object for each.

Both are written under a name of their own and renamed when complete.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from pydantic_core import to_json

from model.tasks import Task
from service.bulk.errors import BulkUsageError
from service.core.prediction import ImageAnswer, ImageFailure
from service.core.served import ServedModel

Format = Literal["parquet", "jsonl"]
Answers = Sequence[ImageAnswer | ImageFailure]

_GROUP_IMAGES = 8192


class PartFile(Protocol):
    """An output file on its way."""

    def write(self, answers: Answers) -> None: ...

    def close(self) -> None:
        """Everything is on its way to the disk."""
        ...

    def discard(self) -> None:
        """Let go of a file that nobody will finish; never raises."""
        ...


def open_part(kind: Format, path: Path, model: ServedModel, tasks: Sequence[int]) -> PartFile:
    """A new file at ``path``."""
    chosen = [model.tasks[index] for index in tasks]
    about = {"model": model.name, "version": str(model.version), "digest": model.digest}
    return FORMATS[kind](path, chosen, about)


def check_format(kind: Format) -> None:
    """Raise BulkUsageError where a format's package is not installed."""
    if kind != "parquet":
        return
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise BulkUsageError(
            "--format parquet needs pyarrow: install the extra bulk, or take --format jsonl"
        ) from error


def publish(staged: Path, final: Path) -> None:
    """Rename a complete file, so that it survives a crash of the machine as well."""
    with staged.open("rb") as file:
        os.fsync(file.fileno())
    staged.replace(final)
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class JsonLinesFile:
    """``{"image": NAME, "predictions": [...]}`` as ``POST /v1/predict`` answers, or the error."""

    def __init__(self, path: Path, tasks: Sequence[Task], about: Mapping[str, str]) -> None:
        self._file = path.open("wb")
        self._tasks = tasks

    def write(self, answers: Answers) -> None:
        self._file.writelines(to_json(self._line(answer)) + b"\n" for answer in answers)

    def close(self) -> None:
        self._file.close()

    def discard(self) -> None:
        with suppress(OSError):  # what waits may not fit on the disk
            self._file.close()

    def _line(self, answer: ImageAnswer | ImageFailure) -> dict[str, Any]:
        if isinstance(answer, ImageFailure):
            return {"image": answer.id, "error": answer.error.message, "code": answer.error.code}
        rows = zip(self._tasks, answer.probabilities.tolist(), answer.labels.tolist(), strict=True)
        found = [_prediction(task, scores, said) for task, scores, said in rows]
        for position, error in answer.row_errors.items():
            name = self._tasks[position].name
            found[position] = {"task": name, "error": error.message, "code": error.code}
        return {"image": answer.id, "predictions": found}


class ParquetFile:
    """Columns ``image``, ``error``, and for each task ``TASK.label`` and ``TASK.probability``.

    ``TASK.probabilities``, of every class, where there are more than two. An answer that could not
    be given is null, and ``error`` says why. The file's metadata has the model, and the classes and
    the threshold of every task.
    """

    def __init__(self, path: Path, tasks: Sequence[Task], about: Mapping[str, str]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._pa = pa
        self._tasks = tasks
        fields = [pa.field("image", pa.string(), nullable=False), pa.field("error", pa.string())]
        for task in tasks:
            fields.append(pa.field(f"{task.name}.label", pa.dictionary(pa.int16(), pa.string())))
            fields.append(pa.field(f"{task.name}.probability", pa.float32()))
            if not task.is_binary:
                every = pa.list_(pa.float32(), len(task.classes))
                fields.append(pa.field(f"{task.name}.probabilities", every))
        described = {
            task.name: {
                "classes": task.classes,
                "threshold": task.threshold if task.is_binary else None,
                "calibrated": task.calibrated,
            }
            for task in tasks
        }
        self._schema = pa.schema(fields, metadata={**about, "tasks": json.dumps(described)})
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._waiting: list[ImageAnswer | ImageFailure] = []

    def write(self, answers: Answers) -> None:
        self._waiting.extend(answers)
        if len(self._waiting) >= _GROUP_IMAGES:
            self._flush()

    def close(self) -> None:
        if self._waiting:
            self._flush()
        self._writer.close()

    def discard(self) -> None:
        self._waiting = []
        with suppress(OSError):
            self._writer.close()
        self._writer.is_open = False  # else it tries again, and complains, when it is collected

    def _flush(self) -> None:
        table = self._pa.Table.from_arrays(self._columns(self._waiting), schema=self._schema)
        self._writer.write_table(table, row_group_size=len(self._waiting))
        self._waiting = []

    def _columns(self, answers: Answers) -> list[Any]:
        pa, count = self._pa, len(answers)
        answered = [one if isinstance(one, ImageAnswer) else None for one in answers]
        known = np.array([one is not None for one in answered])
        columns = [
            pa.array([one.id for one in answers], pa.string()),
            pa.array([self._error(one) for one in answers], pa.string()),
        ]
        good = [one for one in answered if one is not None]
        # [T, images] at once: looking into every answer for each task again costs far more.
        shape = (len(self._tasks), count)
        all_missing = np.tile(~known, (shape[0], 1))
        all_said = np.zeros(shape, np.int16)
        all_scores = np.zeros((*shape, max(len(task.classes) for task in self._tasks)), np.float32)
        if good:
            all_said[:, known] = np.stack([one.labels for one in good], axis=1)
            stacked = np.stack([one.probabilities for one in good], axis=1)
            all_scores[:, known] = stacked[..., : all_scores.shape[2]]
        for index, one in enumerate(answered):
            if one is not None and one.row_errors:
                all_missing[list(one.row_errors), index] = True
        for position, task in enumerate(self._tasks):
            missing, said = all_missing[position], all_said[position]
            scores = all_scores[position, :, : len(task.classes)]
            columns.append(
                pa.DictionaryArray.from_arrays(pa.array(said, mask=missing), list(task.classes))
            )
            shown = scores[:, 1] if task.is_binary else scores[np.arange(count), said]
            columns.append(pa.array(shown, mask=missing))
            if not task.is_binary:
                columns.append(
                    pa.FixedSizeListArray.from_arrays(
                        pa.array(scores.ravel()), len(task.classes), mask=pa.array(missing)
                    )
                )
        return columns

    def _error(self, answer: ImageAnswer | ImageFailure) -> str | None:
        if isinstance(answer, ImageFailure):
            return f"{answer.error.code}: {answer.error.message}"
        if not answer.row_errors:
            return None
        return "; ".join(f"{error.code}: {error.message}" for error in answer.row_errors.values())


FORMATS: dict[Format, Callable[[Path, Sequence[Task], Mapping[str, str]], PartFile]] = {
    "parquet": ParquetFile,
    "jsonl": JsonLinesFile,
}


def _prediction(task: Task, scores: Sequence[float], said: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "task": task.name,
        "label": task.classes[said],
        "probability": scores[1] if task.is_binary else scores[said],
        "calibrated": task.calibrated,
    }
    if task.is_binary:
        found["threshold"] = task.threshold
    else:
        found["probabilities"] = dict(zip(task.classes, scores, strict=False))
    return found
