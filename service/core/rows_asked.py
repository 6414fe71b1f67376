"""The rows of one request: which of them the cache knows, and which the engine has to run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.errors import TaskRouteError
from service.core.decisions import Flags, Indices, Logits
from service.core.job import Job, Pixels
from service.core.response_cache import ResponseCache
from service.core.served import ServedModel


class RowsAsked:
    """A grid of N images with T tasks, row r being task ``r % T`` of image ``r // T``.

    Made of what ``cache`` knows; what it does not know is for a job to run (:attr:`images`,
    :attr:`picked`), whose results :meth:`complete` puts in place, and into the cache.
    """

    def __init__(
        self,
        cache: ResponseCache,
        model: ServedModel,
        tasks: Indices,
        images: Sequence[Pixels],
        digests: Sequence[bytes],
    ) -> None:
        self._cache = cache
        self._model = model
        self._tasks = tasks
        self._digests = digests
        self._known: Flags = np.zeros((len(images), len(tasks)), np.bool_)
        self._logits = np.full((*self._known.shape, model.max_outputs), np.nan, np.float32)
        for image, digest in enumerate(digests):
            known, logits = cache.find(model, digest, tasks)
            self._known[image] = known
            if known.any():
                self._logits[image, known] = logits[known]
        self._left = np.flatnonzero(~self._known.all(axis=1))  # images with rows to run
        self.images = [images[image] for image in self._left.tolist()]
        self.picked: Indices = np.flatnonzero(~self._known[self._left])

    @property
    def hits(self) -> Indices:
        """Task index of every row that the cache knew."""
        return np.broadcast_to(self._tasks, self._known.shape)[self._known]

    @property
    def misses(self) -> int:
        return len(self.picked)

    def complete(self, job: Job) -> tuple[Logits, dict[int, TaskRouteError]]:
        """All rows' logits [N * T, max_outputs], and the errors of those that ``job`` could not
        answer, by row.
        """
        count = len(self._tasks)
        rows = self._left[self.picked // count] * count + self.picked % count
        logits = self._logits.reshape(-1, self._model.max_outputs)
        logits[rows] = job.logits
        errors = {int(rows[row]): error for row, error in job.errors.items()}
        self._keep(rows, errors)
        return logits, errors

    def _keep(self, rows: Indices, errors: dict[int, TaskRouteError]) -> None:
        good = np.zeros(self._known.shape, np.bool_)
        good.ravel()[rows] = True
        good.ravel()[list(errors)] = False
        for image in self._left.tolist():
            new = good[image]
            self._cache.keep(
                self._model, self._digests[image], self._tasks[new], self._logits[image, new]
            )
