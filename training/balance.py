"""Images drawn so that a step's tasks see each of their classes equally often.

Images with many labels cannot be balanced for all tasks at once, but a step of few tasks can: its
places are dealt to pairs of task and class, and each pair draws its images. A network trained so
overrates rare classes; calibration on validation images takes that back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.samplers import Batch
from training.sources import MISSING, Labels

# Beside the streams of training.samplers.
_STREAM = 3


@dataclass(frozen=True, eq=False)
class LabelBalance:
    """Redraws the images of batches; a function of the step's number and a seed, like samplers."""

    labels: Labels  # [N, T]
    seed: int

    def redraw(self, batch: Batch, step: int) -> Batch:
        """As many images for the same tasks, each task's classes equally often, to within one.

        A task has its share of the images; it is trained on the others as well, as they come.
        Classes with fewer images than places are repeated; classes without images have no places.
        """
        generator = np.random.default_rng([self.seed, _STREAM, step])
        shares = np.array_split(np.arange(len(batch.images)), len(batch.tasks))
        drawn = [
            self._of_task(task, len(share), generator)
            for task, share in zip(generator.permutation(batch.tasks), shares, strict=True)
        ]
        return Batch(np.concatenate(drawn), batch.tasks)

    def _of_task(self, task: int, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
        column = self.labels[:, task]
        classes = generator.permutation(np.unique(column[column != MISSING]))
        shares = np.array_split(np.arange(count), len(classes))
        return np.concatenate(
            [
                _choose(np.flatnonzero(column == label), len(share), generator)
                for label, share in zip(classes, shares, strict=True)
            ]
        )


def _choose(
    pool: NDArray[np.int64], count: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """``count`` of ``pool``, none twice before all were taken once."""
    rounds = [generator.permutation(pool) for _ in range(count // len(pool))]
    rest = generator.choice(pool, size=count % len(pool), replace=False)
    return np.concatenate([*rounds, rest])
