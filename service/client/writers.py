"""Answers as lines: CSV with a row for each answer, or JSON with a line for each file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from service.client.answers import Answered, ImageAnswer, ImageFailed

Write = Callable[[Path, ImageAnswer | ImageFailed], bool]  # True: something went unanswered

_COLUMNS = ("file", "task", "label", "probability", "threshold", "calibrated", "error")


def csv_writer(output: TextIO) -> Write:
    """One row for each file and task."""
    rows = csv.DictWriter(output, _COLUMNS, lineterminator="\n")
    rows.writeheader()

    def write(path: Path, answer: ImageAnswer | ImageFailed) -> bool:
        if isinstance(answer, ImageFailed):
            rows.writerow({"file": path, "error": f"{answer.code}: {answer.error}"})
            return True
        for found in answer.predictions:
            row: dict[str, object] = {"file": path, "task": found.task}
            if isinstance(found, Answered):
                row |= found.model_dump(include=set(_COLUMNS))
            else:
                row["error"] = f"{found.code}: {found.error}"
            rows.writerow(row)
        return _incomplete(answer)

    return write


def jsonl_writer(output: TextIO) -> Write:
    """One object for each file: the server's answer beside the file's name."""

    def write(path: Path, answer: ImageAnswer | ImageFailed) -> bool:
        fields = answer.model_dump(mode="json", exclude={"id"}, exclude_none=True)
        output.write(json.dumps({"file": str(path)} | fields, ensure_ascii=False) + "\n")
        return isinstance(answer, ImageFailed) or _incomplete(answer)

    return write


FORMATS: dict[str, Callable[[TextIO], Write]] = {"csv": csv_writer, "jsonl": jsonl_writer}


def _incomplete(answer: ImageAnswer) -> bool:
    return any(not isinstance(found, Answered) for found in answer.predictions)
