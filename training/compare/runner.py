"""One cell of a comparison: train, evaluate, count the cost of serving; to be cut short anywhere.

A cell's result is JSON: what was asked, each task's held-out figures and their means, the cost of
serving all tasks in trunk passes, and the training it took. A run that diverges is a result too:
its ``failure`` says how; so is one that is refused for the memory that it takes, of which
``refused`` has the amounts.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console

from model.baselines.cost import trunk_passes
from model.baselines.towers import TowerNetwork
from model.bundle import Bundle
from model.errors import ModelTooLargeError
from model.network import RoutedNetwork
from model.plan import cost, make_plan, masked_cost
from model.repository import Repository
from model.task_network import TaskNetwork
from training.compare.cells import Cell, Record, asked, fingerprint
from training.compare.rate import budget_clock, planned_epochs
from training.compare.starts import begin, start_file
from training.config import TrainSettings
from training.decoding import Decoder
from training.errors import DivergedError, RunInterruptedError, StateError
from training.metrics import TaskFigures, mean_figures
from training.run import STATE_FOLDER, TrainRequest, train
from training.sources import Dataset
from training.state import StateFile

_MODEL = "model"


@dataclass(frozen=True)
class Runner:
    """Runs cells on one data set."""

    dataset: Dataset
    """With all tasks that any cell trains, in their order."""
    folder: Path
    """For what is in the making: states to go on from, and bundles until they are evaluated."""
    decoder: Decoder
    console: Console

    def asked(self, cell: Cell, settings: TrainSettings) -> dict[str, Any]:
        """What decides the cell's result."""
        names = tuple(self.dataset.tasks.names[: cell.tasks])
        return asked(settings.model_copy(update={"tasks": names}), self.dataset.digest)

    def run(self, cell: Cell, settings: TrainSettings) -> Record:
        """The cell's result; goes on with a run that was cut short. What that needs stays, until
        :meth:`forget`.

        Raises:
            RunInterruptedError: Ctrl-C or SIGTERM; the state to go on from is on disk.
        """
        wanted = self.asked(cell, settings)
        about = {
            "method": cell.method.name, "keep": cell.keep, "tasks": cell.tasks, "seed": cell.seed,
            "asked": wanted,
        }  # fmt: skip
        try:
            bundles = self._networks(cell, settings, self._place(cell, wanted))
        except DivergedError as error:
            result: Record = {"failure": str(error)}
        except ModelTooLargeError as error:
            result = {"failure": str(error), "refused": _amounts(error)}
        else:
            result = {"failure": None} | _result(bundles, settings)
        return about | result

    def forget(self, cell: Cell, settings: TrainSettings) -> None:
        """Remove what the cell's run left, once its result is on disk."""
        shutil.rmtree(self._place(cell, self.asked(cell, settings)), ignore_errors=True)

    def _place(self, cell: Cell, wanted: Mapping[str, Any]) -> Path:
        """Named by what was asked: whatever is found there is of this very run."""
        return self.folder / f"{cell.key}-{fingerprint(wanted)}"

    def _networks(self, cell: Cell, settings: TrainSettings, folder: Path) -> list[Bundle]:
        names = self.dataset.tasks.names[: cell.tasks]
        if not cell.method.network_per_task:
            return [self._trained(settings, names, folder)]
        # Equal budgets: all networks together get what one network for all tasks gets.
        share = settings.model_copy(
            update={
                "time_limit_s": settings.time_limit_s / len(names),
                "epochs": settings.epochs / len(names),
            }
        )
        return [
            self._trained(share, [name], folder / str(index)) for index, name in enumerate(names)
        ]

    def _trained(self, settings: TrainSettings, names: Sequence[str], folder: Path) -> Bundle:
        """The network of these tasks, as published below ``folder``."""
        _make(folder)
        repository = Repository(folder)
        if repository.versions(_MODEL):  # finished before everything was cut short
            return repository.read(_MODEL)
        state = StateFile(repository.workspace(_MODEL) / STATE_FOLDER)
        settings = settings.model_copy(update={"tasks": tuple(names)})
        start = start_file(self.folder, settings, self.dataset.digest)
        if start is not None and start.exists() and not state.exists():
            begin(state, start, settings)
        resume = state.exists()
        if resume:
            settings = settings.model_copy(update={"epochs": state.peek().settings["epochs"]})
        elif settings.time_limit_s:
            settings = settings.model_copy(update={"epochs": self._epochs(settings)})
        try:
            train(
                TrainRequest(
                    self.dataset.source,
                    folder,
                    _MODEL,
                    settings,
                    resume,
                    decoder=self.decoder,
                    clock=budget_clock(settings.device),
                    start_file=start,
                ),
                self.console,
            )
        except RunInterruptedError as error:
            raise RunInterruptedError(
                "interrupted; the same command goes on from there, with finished cells kept"
            ) from error
        return repository.read(_MODEL)

    def _epochs(self, settings: TrainSettings) -> float:
        """To plan for, where time is what is limited."""
        tasks = self.dataset.with_tasks(settings.tasks).tasks
        clock = budget_clock(settings.device)
        return planned_epochs(settings, tasks, self.dataset.counts()["train"], clock)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"--out: {folder} cannot be made: {error.strerror or error}") from error


def _amounts(error: ModelTooLargeError) -> str:
    needed, limit = error.details["needed_bytes"], error.details["limit_bytes"]
    return f"needs {needed / 1e9:.3g} GB, limit {limit / 1e9:.3g}"


def _result(bundles: Sequence[Bundle], settings: TrainSettings) -> Record:
    """Figures, cost and training of a cell's networks together."""
    per_task: dict[str, Any] = {}
    for bundle in bundles:
        per_task |= bundle.metrics["tasks"]
    names = {one.name for one in fields(TaskFigures)}
    figures = [
        TaskFigures(**{name: value for name, value in values.items() if name in names})
        for values in per_task.values()
    ]
    networks = [bundle.any_network() for bundle in bundles]
    trained = [bundle.metrics["training"] for bundle in bundles]
    data = bundles[0].metrics["data"]
    steps = sum(one["steps"] for one in trained)
    batch = min(settings.batch_size, data["images"]["train"])
    return {
        "split": bundles[0].metrics["split"],
        "images": data["images"],
        "figures": mean_figures(figures),
        "intervals": _macro_intervals(bundles),
        "cost": serving_cost(networks),
        "size": _size(bundles, networks),
        "training": {
            "seconds": round(sum(one["seconds"] for one in trained), 1),
            "steps": steps,
            "epochs": round(steps * batch / data["images"]["train"], 3),
        },
        "per_task": per_task,
    }


def _macro_intervals(bundles: Sequence[Bundle]) -> dict[str, Any] | None:
    """Of the means over tasks, by figure; None for several networks, resampled one by one."""
    intervals: dict[str, Any] | None = bundles[0].metrics["intervals"]
    return None if intervals is None or len(bundles) > 1 else intervals["macro"]


def _size(bundles: Sequence[Bundle], networks: Sequence[TaskNetwork]) -> dict[str, int]:
    """Trained numbers, and bytes on disk."""
    counts = [network.parameter_counts() for network in networks]
    files = [file for bundle in bundles for file in bundle.manifest.files.values()]
    return {
        "parameters": sum(count["trunk"] + count["heads"] for count in counts),
        "bundle_bytes": sum(file.bytes for file in files),
    }


def serving_cost(networks: Sequence[TaskNetwork]) -> dict[str, float]:
    """What it costs to ask one image all tasks of all ``networks``, in passes of one full trunk.

    Returns:
        ``passes``: each network by its plan (what tasks share once, then each task's own units);
        ``masked_passes``: the paper's way, a full pass per task where they differ in more than
        heads. Both count multiply-adds of the convolutions, and of stitches; a trunk per task runs
        as it is.
    """
    passes = masked = 0.0
    for network in networks:
        tasks = range(len(network.tasks))
        if isinstance(network, TowerNetwork):
            passes += trunk_passes(network, tasks)
            masked += trunk_passes(network, tasks)
        elif isinstance(network, RoutedNetwork):
            trunk = masked_cost(network).macs
            passes += cost(make_plan(network, tasks), tasks).macs / trunk
            masked += len(tasks) if network.first_own < len(network.layers) else 1
    return {"passes": passes, "masked_passes": masked}
