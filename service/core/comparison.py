"""How far two versions' answers about the same rows are apart."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import torch

from model.rows import RowBatch
from model.tasks import Task
from service.core.decisions import Floats, Indices
from service.core.device_memory import release_cached_memory
from service.core.job import Pixels
from service.core.served import ServedModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Sample:
    """An image with the answers that a caller was given about it. Holds on to no model."""

    model: str  # its name
    preprocess_id: str
    pixels: Pixels
    tasks: tuple[Task, ...]  # [R] as the version that answered knows them
    probabilities: Floats  # [R, columns]
    labels: Indices  # [R]

    @property
    def bytes(self) -> int:
        """Memory that it holds."""
        return self.pixels.nbytes + self.probabilities.nbytes + self.labels.nbytes

    def part(self, start: int, stop: int) -> Sample:
        """Rows ``start`` to ``stop``."""
        return Sample(
            self.model,
            self.preprocess_id,
            self.pixels,
            self.tasks[start:stop],
            self.probabilities[start:stop],
            self.labels[start:stop],
        )


@dataclass
class Comparison:
    """Rows of one shadow version, by how they compared."""

    version: int
    digest: str
    differences: Floats = field(default_factory=lambda: np.empty(0))  # |dp|, per compared row
    flips: Counter[str] = field(default_factory=Counter)  # other labels, by task
    failed: int = 0  # the shadow raised, or answered what is not a number
    incomparable: int = 0  # other preprocessing, or a task that it does not have
    dropped: int = 0  # the engine was never idle for long enough


def compare(shadow: ServedModel, sample: Sample) -> Comparison:
    """Ask ``shadow`` about the sample. Engine thread only; never raises.

    |dp| of a row is the largest over its task's classes.
    """
    found = Comparison(shadow.version, shadow.digest)
    positions = {task.name: index for index, task in enumerate(shadow.tasks)}
    rows, indices = [], []
    for row, task in enumerate(sample.tasks):
        index = positions.get(task.name)
        if index is not None and shadow.tasks[index].classes == task.classes:
            rows.append(row)
            indices.append(index)
    found.incomparable = len(sample.tasks) - len(rows)
    if not rows:
        return found
    try:
        pixels = torch.from_numpy(sample.pixels[None])
        logits = shadow.forward(RowBatch.all_pairs(pixels, indices)).numpy()
    except Exception:  # whatever it raises concerns no caller
        logger.warning("shadow version %d of %r failed", shadow.version, shadow.name, exc_info=True)
        release_cached_memory()
        found.failed = len(rows)
        return found
    asked = np.array(indices)
    sound = np.setdiff1d(np.arange(len(rows)), shadow.decisions.faulty_rows(asked, logits))
    found.failed = len(rows) - len(sound)
    asked, logits, live = asked[sound], logits[sound], np.array(rows)[sound]
    probabilities = shadow.decisions.probabilities(asked, logits)
    columns = min(probabilities.shape[1], sample.probabilities.shape[1])  # beyond: no class
    apart = np.abs(probabilities[:, :columns] - sample.probabilities[live, :columns])
    found.differences = apart.max(axis=1)
    flipped = shadow.decisions.labels(asked, probabilities) != sample.labels[live]
    found.flips.update(sample.tasks[row].name for row in live[flipped].tolist())
    return found
