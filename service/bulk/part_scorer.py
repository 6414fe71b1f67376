"""From parts of the input to output files: what one process of a bulk job does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch

from model.cpu import cpu_budget
from model.preprocess import ImageLimits
from service.bulk.decoding import Batch, BatchReader
from service.bulk.errors import BulkError
from service.bulk.inputs import Part, open_place
from service.bulk.journal import Counts, Journal, Plan
from service.bulk.scorer import Scorer
from service.bulk.writers import PartFile, open_part
from service.core.loader import RepositorySources
from service.core.prediction import ImageAnswer, ImageFailure
from service.core.run_options import RunOptions
from service.core.served import ServedModel

# Decoded batches that wait, beside the one that is being scored.
_BATCHES_AHEAD = 3


@dataclass(frozen=True)
class BulkOptions:
    """How a process scores. The plan has what decides the output, precision and limits; the rest
    changes its last digits at most."""

    repository: str
    run: RunOptions = field(default_factory=RunOptions)
    """``workers`` is the number of threads of the engine; 0: what the container may use."""
    decode_threads: int = 0
    """0: as many as processors, at least 2."""
    limits: ImageLimits = field(default_factory=ImageLimits)

    def engine_threads(self) -> int:
        return self.run.workers or cpu_budget().cpus

    def decoders(self) -> int:
        return self.decode_threads or max(2, cpu_budget().cpus)


def load_model(name: str, version: int | None, options: BulkOptions) -> ServedModel:
    """The version as the service would load it: verified, checked, its fastest way measured."""
    threads = options.engine_threads()
    torch.set_num_threads(threads)
    run = RunOptions(**{**vars(options.run), "workers": threads})
    loader = RepositorySources(options.repository, run).of(name)
    return loader.load(loader.published(version))


def latest_version(name: str, options: BulkOptions) -> int:
    """What LATEST names now."""
    return RepositorySources(options.repository, options.run).of(name).published().version


class PartScorer:
    """Scores whole parts with a model of its own; on one thread."""

    def __init__(
        self, out: Path, plan: Plan, options: BulkOptions, model: ServedModel | None = None
    ) -> None:
        """Loads the plan's version, unless it is given.

        Raises:
            BulkError: that version is another one now.
            TaskRouteError: it cannot be loaded.
        """
        model = model or load_model(plan.model, plan.version, options)
        if model.digest != plan.digest:
            raise BulkError(
                f"version {plan.version} of {plan.model} is {model.digest} now; the job began with "
                f"{plan.digest}: its answers would not go together"
            )
        self._plan, self._journal = plan, Journal(out)
        self._tasks = [model.tasks.position(name) for name in plan.tasks]
        self._scorer = Scorer(model, self._tasks)
        self._place, _ = open_place(plan.input)
        self._reader = BatchReader(
            self._place,
            model.config.preprocess,
            options.limits,
            options.decoders(),
            ahead=_BATCHES_AHEAD * plan.batch_images,
        )

    def close(self) -> None:
        self._reader.close()

    def score(
        self, parts: Iterable[Part], advance: Callable[[int], None] = lambda images: None
    ) -> Iterator[tuple[int, Counts]]:
        """Write the file of every part; yields each part's number as soon as its file is there.

        Args:
            advance: told how many more images are scored.

        Raises:
            BulkError: the input cannot be read, the output not written, or the model not run.
        """
        # Encoded and written by a thread, while the next batch is computed; one batch at a time.
        with ThreadPoolExecutor(1, thread_name_prefix="write") as pool:
            writing: Future[tuple[int, Counts] | None] | None = None
            output = _Output(self._journal, self._plan, self._scorer.model, self._tasks)
            try:
                for batch in self._reader.batches(parts, self._plan.batch_images):
                    answers = self._scorer.score(batch.images)
                    advance(len(answers))
                    if writing is not None and (finished := writing.result()):
                        yield finished
                    writing = pool.submit(output.take, batch, answers)
                if writing is not None and (finished := writing.result()):
                    yield finished
            except OSError as error:
                raise BulkError(f"stopped: {error}; the same command goes on") from error
            finally:
                pool.shutdown(wait=True)
                output.discard()


class _Output:
    """The file of the part that is being scored."""

    def __init__(
        self, journal: Journal, plan: Plan, model: ServedModel, tasks: Sequence[int]
    ) -> None:
        self._journal, self._plan, self._model, self._tasks = journal, plan, model, tasks
        self._file: PartFile | None = None
        self._images = self._failed = self._rows = 0

    def discard(self) -> None:
        """Let go of a file that nobody will finish, and of the room that it takes."""
        if self._file is not None:
            self._file.discard()
            self._staged.unlink(missing_ok=True)

    def take(
        self, batch: Batch, answers: Sequence[ImageAnswer | ImageFailure]
    ) -> tuple[int, Counts] | None:
        """Write a batch; the part's number and counts if that was its last one."""
        index = batch.part.index
        if self._file is None:
            self._staged = self._journal.staging(index)
            self._file = open_part(self._plan.format, self._staged, self._model, self._tasks)
            self._images = self._failed = self._rows = 0
        self._file.write(answers)
        for answer in answers:
            failed = isinstance(answer, ImageFailure) or bool(answer.row_errors)
            self._images += 1
            self._failed += failed
            if isinstance(answer, ImageAnswer):
                self._rows += len(self._tasks) - len(answer.row_errors)
        if not batch.last:
            return None
        self._file.close()
        self._file = None
        counts = Counts(images=self._images, failed=self._failed, rows=self._rows)
        self._journal.finish(self._plan, index, self._staged, counts)
        return index, counts
