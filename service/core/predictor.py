"""From image files and tasks to answers: admission, decoding, queue, decision."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np

from model.errors import TaskRouteError
from service.core.clock import Clock
from service.core.decisions import Floats, Indices, Logits
from service.core.decoder import Decoder
from service.core.errors import DeadlineError, TryLaterError
from service.core.job import Job, Pixels
from service.core.prediction import EncodedImage, ImageAnswer, ImageFailure, Prediction, Timing
from service.core.priority import Priority
from service.core.response_cache import ResponseCache, pixel_digests
from service.core.rows_asked import RowsAsked
from service.core.scheduler import Scheduler
from service.core.served import ServedModel
from service.core.shadow import ShadowComparison
from service.core.telemetry import Telemetry


class Predictor:
    """Answers requests; knows nothing of the protocol they came by. Event loop only."""

    def __init__(
        self,
        scheduler: Scheduler,
        decoder: Decoder,
        clock: Clock,
        telemetry: Telemetry,
        cache: ResponseCache | None = None,
        shadows: ShadowComparison | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._decoder = decoder
        self._clock = clock
        self._telemetry = telemetry
        self._cache = cache
        self._shadows = shadows

    def check_room(self, deadline: float, priority: Priority = Priority.INTERACTIVE) -> None:
        """Refuse a request whose body is still to be read if it could not be let in anyway.

        Raises:
            TryLaterError: no room for even one row by ``deadline`` (clock seconds).
        """
        self._scheduler.check_room(deadline, priority)

    async def predict(
        self,
        model: ServedModel,
        images: Sequence[EncodedImage],
        tasks: Sequence[int],
        deadline: float,
        priority: Priority = Priority.INTERACTIVE,
    ) -> Prediction:
        """Every image's answer to every task, from ``model``.

        A bad image gets an error of its own. Cancelling this takes the request's rows out of the
        queue.

        Raises:
            TryLaterError, TooManyRowsError: not admitted, or given up on shutdown.
            DeadlineError: ``deadline`` (clock seconds) passed first.
        """
        begun = self._clock.now()
        try:
            prediction = await self._answer(model, images, tasks, deadline, begun, priority)
        except asyncio.CancelledError:
            self._telemetry.request(priority, "cancelled", None)
            raise
        except TaskRouteError as error:
            self._telemetry.answered(model, self._clock.now() - begun, None)
            self._telemetry.request(priority, _outcome(error), None)
            raise
        well = any(isinstance(image, ImageAnswer) for image in prediction.images)
        timing = prediction.timing if well else None
        self._telemetry.answered(model, self._clock.now() - begun, timing)
        waited = timing.queue if timing else None
        self._telemetry.request(priority, "ok" if well else "error", waited)
        return prediction

    async def _answer(
        self,
        model: ServedModel,
        images: Sequence[EncodedImage],
        tasks: Sequence[int],
        deadline: float,
        begun: float,
        priority: Priority,
    ) -> Prediction:
        if begun >= deadline:
            raise DeadlineError("the deadline passed before the images were decoded", stage="read")
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task_index = np.array(tasks, np.int64)
        job = self._scheduler.admit(
            model,
            task_index,
            len(images),
            sum(image.size for image in images),
            deadline,
            lambda _: _resolve(answered),
            priority,
        )
        try:
            async with asyncio.timeout(deadline - begun):
                decoded = await self._decode(model, images, deadline)
                decode_seconds = self._clock.now() - begun
                good = [pixels for pixels in decoded if isinstance(pixels, np.ndarray)]
                asked = await self._look_up(model, task_index, good)
                if asked is None:
                    self._scheduler.submit(job, good)
                else:
                    self._scheduler.submit(job, asked.images, asked.picked)
                if job.rows:
                    await answered
        except TimeoutError:
            raise self._expire(job, deadline - begun) from None
        except DeadlineError:  # found by the decoder
            self._scheduler.withdraw(job, "expired")
            raise
        except asyncio.CancelledError:
            self._telemetry.cancelled(job.stage)
            self._scheduler.withdraw(job, "cancelled")
            raise
        finally:
            self._scheduler.withdraw(job, "error")  # nothing left to do, unless something raised
        if job.failure is not None:
            raise job.failure
        timing = _timing(job, begun, decode_seconds)
        self._telemetry.stage("decode", timing.decode)
        self._telemetry.stage("queue", timing.queue)
        logits, errors = asked.complete(job) if asked else (job.logits, job.errors)
        answers = self._answers(model, task_index, logits, errors, images, decoded)
        prediction = Prediction(model, task_index, answers, timing)
        if self._shadows is not None:
            self._shadows.offer(prediction, decoded)
        return prediction

    async def _look_up(
        self, model: ServedModel, tasks: Indices, images: Sequence[Pixels]
    ) -> RowsAsked | None:
        """What the response cache knows; None where there is none."""
        if self._cache is None or not images:
            return None
        begun = self._clock.now()
        digests = await self._decoder.run(pixel_digests, images)
        asked = RowsAsked(self._cache, model, tasks, images, digests)
        self._telemetry.rows(model, asked.hits, "cached")
        seconds = self._clock.now() - begun
        self._telemetry.cache(model, len(asked.hits), asked.misses, seconds)
        return asked

    async def _decode(
        self, model: ServedModel, images: Sequence[EncodedImage], deadline: float
    ) -> list[Pixels | TaskRouteError]:
        contents = [image.content for image in images if image.error is None]
        found = iter(await self._decoder.decode(contents, model.config.preprocess, deadline))
        return [image.error or next(found) for image in images]

    def _expire(self, job: Job, allowed: float) -> DeadlineError:
        error = DeadlineError(
            f"no answer within {allowed:.3f} s ({job.answered} of {job.rows} rows were run); allow "
            "more time (X-Request-Timeout-Ms) or ask for fewer rows",
            stage=job.stage,
        )
        self._scheduler.withdraw(job, "expired")
        return error

    def _answers(
        self,
        model: ServedModel,
        tasks: Indices,
        logits: Logits,
        errors: Mapping[int, TaskRouteError],
        images: Sequence[EncodedImage],
        decoded: Sequence[Pixels | TaskRouteError],
    ) -> list[ImageAnswer | ImageFailure]:
        decisions = model.decisions
        row_tasks: Indices = np.tile(tasks, len(logits) // len(tasks))
        probabilities = decisions.probabilities(row_tasks, logits)
        labels = decisions.labels(row_tasks, probabilities)
        counted = decisions.binary[row_tasks]
        counted[list(errors)] = False
        self._telemetry.answers(model, row_tasks[counted], labels[counted] == 1)
        return answers_by_image(len(tasks), errors, images, decoded, probabilities, labels)


def _outcome(error: TaskRouteError) -> str:
    if isinstance(error, TryLaterError):
        return "shed"
    return "expired" if isinstance(error, DeadlineError) else "error"


def _resolve(answered: asyncio.Future[None]) -> None:
    if not answered.done():  # the request may have been cancelled meanwhile
        answered.set_result(None)


def _timing(job: Job, begun: float, decode_seconds: float) -> Timing:
    if not job.rows:
        return Timing(decode=decode_seconds, began=begun)
    waited = job.finished - job.submitted - job.compute_seconds
    return Timing(decode_seconds, max(0.0, waited), job.compute_seconds, begun)


def answers_by_image(
    count: int,
    row_errors: Mapping[int, TaskRouteError],
    images: Sequence[EncodedImage],
    decoded: Sequence[Pixels | TaskRouteError],
    probabilities: Floats,
    labels: Indices,
) -> list[ImageAnswer | ImageFailure]:
    """Answers about ``images`` from the rows of those that were decoded, ``count`` of each."""
    answers: list[ImageAnswer | ImageFailure] = []
    start = 0
    for image, found in zip(images, decoded, strict=True):
        if isinstance(found, TaskRouteError):
            answers.append(ImageFailure(image.id, found))
            continue
        stop = start + count
        errors = {row - start: row_errors[row] for row in row_errors if start <= row < stop}
        if len(errors) == count:
            answers.append(ImageFailure(image.id, errors[0]))
        else:
            answers.append(
                ImageAnswer(image.id, probabilities[start:stop], labels[start:stop], errors)
            )
        start = stop
    return answers
