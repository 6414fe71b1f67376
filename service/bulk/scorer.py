"""The engine of a bulk job: the service's own loader, batch runner and decisions, without a queue.

What keeps one image's fault from hurting the others in the service does so here: a batch that fails
is halved until the guilty row is alone, also where memory runs out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from service.bulk.decoding import DecodedImage
from service.bulk.errors import BulkError
from service.core.batch_runner import BatchRunner, EngineBrokenError
from service.core.clock import SystemClock
from service.core.heartbeat import Heartbeat
from service.core.job import Job, Pixels, Slice
from service.core.prediction import EncodedImage, ImageAnswer, ImageFailure
from service.core.predictor import answers_by_image
from service.core.row_limit import RowLimit
from service.core.served import ServedModel

# Beyond, a batch gains nothing and only holds memory.
MAX_BATCH_IMAGES = 512
_LONGEST_BATCH_S = 4.0
_MAX_BATCH_ROWS = 2**20


class Scorer:
    """Scores decoded images with one loaded model; on one thread, which then owns the model."""

    def __init__(self, model: ServedModel, tasks: Sequence[int]) -> None:
        self.model = model
        self.tasks = np.array(tasks, np.int64)
        clock = SystemClock()
        self._runner = BatchRunner(clock, RowLimit(_MAX_BATCH_ROWS), Heartbeat(clock))

    def score(self, images: Sequence[DecodedImage]) -> list[ImageAnswer | ImageFailure]:
        """Answers to every task, image by image, in order.

        Raises:
            BulkError: the model cannot even answer the row that it was warmed up with.
        """
        good = [image.pixels for image in images if isinstance(image.pixels, np.ndarray)]
        job = self._job(good)
        if good:
            self._run(job)
        decisions = self.model.decisions
        row_tasks = job.row_tasks(0, job.rows)
        probabilities = decisions.probabilities(row_tasks, job.logits)
        return answers_by_image(
            len(self.tasks),
            job.errors,
            [EncodedImage(image.name) for image in images],
            [image.pixels for image in images],
            probabilities,
            decisions.labels(row_tasks, probabilities),
        )

    def _job(self, pixels: Sequence[Pixels]) -> Job:
        rows = len(pixels) * len(self.tasks)
        return Job(
            model=self.model,
            tasks=self.tasks,
            rows=rows,
            bytes=0,
            arrived=0.0,
            deadline=math.inf,
            urgency=0.0,
            on_done=_nobody_waits,
            images=pixels,
            logits=np.full((rows, self.model.max_outputs), np.nan, np.float32),
        )

    def _run(self, job: Job) -> None:
        try:
            with torch.inference_mode():
                self._runner.run([Slice(job, 0, job.rows)], "bulk")
        except EngineBrokenError as error:
            raise BulkError(f"the model cannot be run: {error}") from error

    def best_batch(self, clock: Callable[[], float] = time.perf_counter) -> int:
        """Images of a batch at which most are scored in a second, by trying."""
        best, best_rate, images = 1, 0.0, 1
        spec = self.model.config.preprocess
        generator = np.random.default_rng(0)
        while images <= MAX_BATCH_IMAGES:
            shape = (images, spec.height, spec.width, 3)
            batch = list(generator.integers(0, 256, shape, dtype=np.uint8))
            self._run(self._job(batch))  # memory and kernels of this size are paid once
            began = clock()
            self._run(self._job(batch))
            seconds = clock() - began
            rate = images / seconds if seconds > 0 else math.inf
            # A larger batch has to earn its memory.
            if rate > 1.02 * best_rate:
                best, best_rate = images, rate
            if seconds > _LONGEST_BATCH_S or rate < 0.8 * best_rate:
                break
            images *= 2
        return best


def _nobody_waits(_: Job) -> None:
    """A bulk job asks for its rows itself."""
