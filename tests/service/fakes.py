"""Stand-ins for time, the network and the outside, so that the core runs in the test's thread."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.config import ModelConfig, PreprocessConfig
from model.errors import UnknownModelError
from model.forward import Computing, nobody_waits
from model.repository import Published
from model.rows import RowBatch
from model.tasks import Calibration, Task
from service.core.batch_runner import BatchRunner
from service.core.comparison import Comparison
from service.core.decisions import Flags, Indices
from service.core.engine import Action, Engine, Run
from service.core.heartbeat import Heartbeat
from service.core.job import Job, Pixels
from service.core.limits import SchedulerLimits
from service.core.prediction import Timing
from service.core.priority import Priority
from service.core.scheduler import Scheduler
from service.core.served import ServedModel
from service.core.source import ModelSource, ModelSources
from service.core.telemetry import BatchReport


class FakeClock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


class FakeForward:
    """Logits that a test can compute by hand: mean pixel of the image, plus a tenth of the task.

    ``seconds_per_batch`` and ``seconds_per_row`` move the clock; ``fault`` may raise for, or
    change, a batch.
    """

    name = "fake"
    kernels = "none"

    def __init__(self, config: ModelConfig, clock: FakeClock | None = None) -> None:
        self._tasks = config.task_set
        self._clock = clock
        self.seconds_per_batch = 0.0
        self.seconds_per_row = 0.0
        self.batches: list[RowBatch] = []
        self.fault: Callable[[RowBatch, Tensor], None] = lambda batch, logits: None

    def __call__(self, batch: RowBatch, computing: Computing = nobody_waits) -> Tensor:
        computing()
        self.batches.append(batch)
        if self._clock:
            self._clock.advance(self.seconds_per_batch + self.seconds_per_row * len(batch))
        means = batch.images.float().mean(dim=(1, 2, 3)) / 255
        logits = torch.full((len(batch), self._tasks.max_outputs), -math.inf)
        for row, task in enumerate(batch.task_index.tolist()):
            logits[row, : self._tasks[task].outputs] = (
                means[batch.image_index[row]]
                + task / 10
                + torch.arange(self._tasks[task].outputs) / 3
            )
        self.fault(batch, logits)
        return logits

    def close(self) -> None:
        pass

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.batches]


class RecordingTelemetry:
    """Keeps what was reported."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.said: Counter[tuple[int, bool]] = Counter()  # task, yes?
        self.batches: list[BatchReport] = []
        self.sheds: Counter[str] = Counter()
        self.cached: Counter[str] = Counter()
        self.cancellations: Counter[str] = Counter()
        self.stages: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.levels: Counter[tuple[str, str]] = Counter()
        self.loaded: list[ServedModel] = []
        self.comparisons: list[Comparison] = []
        self.refused = 0
        self.rollbacks = 0

    def model_loaded(self, model: ServedModel) -> None:
        self.loaded.append(model)

    def model_refused(self) -> None:
        self.refused += 1

    def model_rolled_back(self, model: ServedModel) -> None:
        self.rollbacks += 1

    def batch(self, report: BatchReport) -> None:
        self.batches.append(report)

    def rows(self, model: ServedModel, tasks: Indices, outcome: str) -> None:
        self.outcomes[outcome] += len(tasks)

    def answers(self, model: ServedModel, tasks: Indices, said_yes: Flags) -> None:
        self.said.update(zip(tasks.tolist(), said_yes.tolist(), strict=True))

    def cache(self, model: ServedModel, hits: int, misses: int, seconds: float) -> None:
        self.cached.update(hit=hits, miss=misses)

    def shed(self, reason: str) -> None:
        self.sheds[reason] += 1

    def cancelled(self, stage: str) -> None:
        self.cancellations[stage] += 1

    def stage(self, stage: str, seconds: float) -> None:
        self.stages[stage] += 1

    def answered(self, model: ServedModel, seconds: float, timing: Timing | None) -> None:
        self.requests["failed" if timing is None else "answered"] += 1

    def compared(self, name: str, found: Comparison) -> None:
        self.comparisons.append(found)

    def request(self, priority: Priority, outcome: str, queue_seconds: float | None) -> None:
        self.levels[priority.label, outcome] += 1


class OneVersion(ModelSource):
    """A loader whose model never changes, whatever version is asked for."""

    def __init__(self, load: Callable[[], ServedModel]) -> None:
        self._load = load
        self._published = Published(0, "", "")

    def published(self, version: int | None = None) -> Published:
        return self._published

    def load(self, published: Published) -> ServedModel:
        model = self._load()
        self._published = Published(model.version, model.digest, "")
        return model


class SomeModels(ModelSources):
    """Sources by the models' names."""

    def __init__(self, **sources: ModelSource) -> None:
        self._sources = sources

    def of(self, name: str) -> ModelSource:
        if name not in self._sources:
            raise UnknownModelError(f"there is no model {name!r}", model=name)
        return self._sources[name]


Load = ModelSources | ModelSource | Callable[[], ServedModel]


def sources_of(load: Load, name: str = "fashion") -> ModelSources:
    """Sources of the one model ``name``, unless ``load`` has more."""
    if isinstance(load, ModelSources):
        return load
    return SomeModels(**{name: load if isinstance(load, ModelSource) else OneVersion(load)})


def make_tasks(count: int = 4) -> tuple[Task, ...]:
    """Binary tasks t0, t1, ... and, from three on, a last one with four classes."""
    tasks = [
        Task(
            name=f"t{index}",
            group="even" if index % 2 == 0 else "odd",
            description=f"question {index}",
            threshold=0.55,
            calibrated=index % 2 == 0,
            calibration=Calibration(method="platt", scale=1.5, shift=-0.5)
            if index % 2 == 0
            else Calibration(),
        )
        for index in range(count)
    ]
    if count >= 3:
        tasks[-1] = Task(name="kind", group="kinds", classes=("boot", "coat", "bag", "shirt"))
    return tuple(tasks)


def make_config(tasks: int = 4, size: int = 28) -> ModelConfig:
    return ModelConfig(
        preprocess=PreprocessConfig(height=size, width=size), tasks=make_tasks(tasks)
    )


def make_model(
    tasks: int = 4, clock: FakeClock | None = None, version: int = 1, name: str = "fashion"
) -> ServedModel:
    config = make_config(tasks)
    return ServedModel(
        name=name,
        version=version,
        digest=f"sha256:{version:064x}",
        config=config,
        forward=FakeForward(config, clock),
        device="cpu",
        created_at=1.7e9 + version,
        loaded_at=1.8e9,
        load_seconds=0.1,
    )


def fake_forward(model: ServedModel) -> FakeForward:
    assert isinstance(model.forward, FakeForward)
    return model.forward


def image(value: int, size: int = 28) -> Pixels:
    return np.full((size, size, 3), value, np.uint8)


def expected_logit(value: int, task: int) -> float:
    """First logit that FakeForward gives for :func:`image` of ``value``."""
    return value / 255 + task / 10


def run_here(function: Callable[..., Any], *arguments: Any) -> None:
    """A ``post`` that needs no event loop."""
    function(*arguments)


class Bench:
    """A scheduler and an engine without a thread: the test says when the engine takes a step."""

    def __init__(self, limits: SchedulerLimits | None = None, tasks: int = 4) -> None:
        self.clock = FakeClock()
        self.limits = limits or SchedulerLimits()
        self.telemetry = RecordingTelemetry()
        self.scheduler = Scheduler(self.limits, self.clock, self.telemetry, run_here)
        heartbeat = Heartbeat(self.clock)
        runner = BatchRunner(self.clock, self.scheduler.row_limit, heartbeat)
        self.engine = Engine(self.scheduler, runner, heartbeat)
        self.model = make_model(tasks, self.clock)
        self.forward = fake_forward(self.model)
        self.done: list[Job] = []

    def admit(
        self,
        tasks: Sequence[int] = (0,),
        images: int = 1,
        timeout: float = 10.0,
        model: ServedModel | None = None,
        encoded_bytes: int = 0,
        priority: Priority = Priority.INTERACTIVE,
    ) -> Job:
        return self.scheduler.admit(
            model or self.model,
            np.array(tasks, np.int64),
            images,
            encoded_bytes,
            self.clock.now() + timeout,
            self.done.append,
            priority,
        )

    def ask(
        self,
        tasks: Sequence[int] = (0,),
        values: Sequence[int] = (100,),
        timeout: float = 10.0,
        model: ServedModel | None = None,
        priority: Priority = Priority.INTERACTIVE,
    ) -> Job:
        """Admit and submit one request with an image of each value."""
        job = self.admit(tasks, len(values), timeout, model, priority=priority)
        self.scheduler.submit(job, [image(value) for value in values])
        return job

    def step(self) -> Action:
        """One action, as if the engine had nothing to begin behind it."""
        action = self.engine.step()
        self.scheduler.hand_over()
        return action

    def run_all(self) -> list[Run]:
        """Step until nothing is left to run; the batches, in order."""
        runs = []
        while isinstance(action := self.step(), Run):
            runs.append(action)
        return runs

    def teach(self, fixed: float, per_row: float) -> None:
        """Show the cost model batches that follow ``fixed + per_row * rows``."""
        for rows in (1, 2, 4, 8, 16, 32):
            self.scheduler.learn(self.model, rows, fixed + per_row * rows)
