"""One refresh: train from LATEST, compare with LATEST, publish or refuse.

Where another publisher was faster, the candidate is judged again, against what is latest now: of
two refreshers at once each publishes a version, one after the other, and each version has passed
the gate against the one that it replaced. ``parent`` of a published version is that one;
``refresh.trained_from`` of its metrics is what its weights began with.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console

from model.bundle import Bundle
from model.config import PreprocessConfig
from model.errors import LatestMovedError
from model.network import RoutedNetwork
from model.preprocess import Pixels
from model.repository import Repository
from model.self_check import largest_probability_difference
from model.strategies import Strategy, make_forward, sample_batch
from model.task_network import TaskNetwork
from model.tasks import TaskSet
from training.config import TrainSettings
from training.decoding import Decoder
from training.errors import DataError, RefusedError, SettingsError
from training.messages import say
from training.prediction import predict
from training.preparation import decode_split
from training.progress import progress_display
from training.refresh.comparison import Answers, compare_answers
from training.refresh.gate import SelfCheck, judge
from training.refresh.recipe import inherited_settings
from training.refresh.report import GateReport, VersionName
from training.refresh.runs import Plan, Run, entered, finished
from training.refresh.settings import GateSettings
from training.run import STATE_FOLDER, Candidate, TrainRequest, train
from training.settings_files import load_settings
from training.sources import MISSING, Dataset, SourceOptions, Split, open_source

_CHECKED_TASKS = 64


@dataclass(frozen=True)
class RefreshRequest:
    """What to refresh, with what, and how much worse it may become."""

    source: str
    repository: str | Path
    name: str
    gate: GateSettings = field(default_factory=GateSettings)
    config: str | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the training run that differ from the old version's."""
    resume: bool = False
    restart: bool = False
    decoder: Decoder = field(default_factory=Decoder)


@dataclass(frozen=True)
class Refreshed:
    """What a refresh led to."""

    version: int
    report: GateReport | None
    """None where an interrupted run turned out to have published already."""


class GateRefusedError(RefusedError):
    """The gate let the candidate not pass; LATEST is untouched."""

    def __init__(self, report: GateReport) -> None:
        failed = ", ".join(one.name for one in report.failed)
        super().__init__(
            f"refused: {failed}; version {report.old.version} of {report.model} stays the latest",
            report=report.to_json(),
        )
        self.report = report


def refresh(request: RefreshRequest, console: Console) -> Refreshed:
    """Train from the latest version, and publish what the gate lets pass.

    Raises:
        GateRefusedError: it did not pass; nothing was published.
        TaskRouteError: nothing was published; the message says what to do.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SettingsError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}: refresh runs in one process; start it "
            "without torchrun"
        )
    repository = Repository(request.repository)
    parent = _latest(repository, request.name)
    location = f"{repository.location}/{request.name}/{parent.name.version}"
    settings = inherited_settings(parent.bundle, location, request.config, request.flags)
    dataset = _dataset(request, settings, parent)
    plan = Plan(
        source=request.source,
        data_digest=dataset.digest,
        parent=parent.name,
        settings=settings.model_dump(mode="json"),
    )

    def published(run: str, of: Plan) -> int | None:
        return _published_by(repository, request.name, run, of)

    root = repository.workspace(request.name) / STATE_FOLDER
    with entered(root, plan, published, resume=request.resume, restart=request.restart) as found:
        run, dropped = found
        if dropped:
            say(console, f"note: {dropped} interrupted refreshes were thrown away")
        if run.version is not None:
            finished(run)
            return Refreshed(run.version, None)
        if request.resume and not run.resumes:
            say(console, "note: no interrupted refresh of this data and settings: a new one begins")
        work = _Refresh(request, repository, run, dataset, console)
        try:
            refreshed = work.result()
        except RefusedError:
            finished(run)
            raise
        finished(run)
        return refreshed


@dataclass(frozen=True)
class _Old:
    """The version that LATEST names."""

    name: VersionName
    bundle: Bundle


def _latest(repository: Repository, model: str) -> _Old:
    version = repository.latest(model)
    bundle = repository.read(model, version)
    return _Old(VersionName(version, bundle.digest), bundle)


def _dataset(request: RefreshRequest, settings: TrainSettings, parent: _Old) -> Dataset:
    """The data under the old version's tasks.

    Raises:
        DataError: a task without a single label to train on: it would not be answered any more.
    """
    tasks = parent.bundle.config.task_set
    options = SourceOptions(settings.split_seed, tuple(tasks))
    dataset = open_source(request.source, options).aligned(tasks)
    labelled = (dataset.labels[dataset.indices("train")] != MISSING).any(axis=0)
    absent = [task.name for task, known in zip(tasks, labelled.tolist(), strict=True) if not known]
    if absent:
        raise DataError(
            f"{request.source}: no training image has a label for {', '.join(absent[:5])}"
            f"{f' and {len(absent) - 5} more' if len(absent) > 5 else ''}, which version "
            f"{parent.name.version} of {request.name} answers; a refresh answers every task of the "
            "version before: add labels for them to the data",
            tasks=absent,
        )
    return dataset


def _published_by(repository: Repository, name: str, run: str, plan: Plan) -> int | None:
    """The version that an interrupted run had published, made the latest if it was to be."""
    for version in repository.versions(name):
        if version <= plan.parent.version:
            continue
        report = repository.read(name, version).metrics.get("refresh", {})
        if report.get("run") == run:
            if repository.latest(name) == report["old"]["version"]:
                repository.set_latest(name, version)  # it was killed between the two
            return version
    return None


@dataclass(frozen=True)
class _Refresh:
    """The steps of one run."""

    request: RefreshRequest
    repository: Repository
    run: Run
    dataset: Dataset
    console: Console
    _reports: list[GateReport] = field(default_factory=list)

    @property
    def settings(self) -> TrainSettings:
        """Of the run as it began: a resumed one may have begun with another version."""
        return load_settings(TrainSettings, None, self.run.plan.settings)

    def result(self) -> Refreshed:
        request = self.request
        training = TrainRequest(
            source=request.source,
            repository=request.repository,
            name=request.name,
            settings=self.settings,
            resume=self.run.resumes,
            decoder=request.decoder,
            answers=self.dataset.tasks,
            state_folder=self.run.folder,
        )
        published = train(training, self.console, release=self._release)
        return Refreshed(published.version, self._reports[-1])

    def _release(self, candidate: Candidate) -> int:
        """Publish behind the version that it was judged against, and behind no other."""
        check = self_check(candidate.network)
        while True:
            old = _latest(self.repository, self.request.name)
            report = self._judged(candidate, old, check)
            self._reports.append(report)
            if not report.passed:
                raise GateRefusedError(report)
            try:
                return self.repository.publish(
                    self.request.name,
                    candidate.network,
                    candidate.metrics | {"refresh": report.to_json()},
                    candidate.card + _card_section(report),
                    parent=report.old.version,
                    replaces=report.old.version,
                )
            except LatestMovedError as moved:
                say(self.console, f"note: {moved}; the candidate is judged again, against that")

    def _judged(self, candidate: Candidate, old: _Old, check: SelfCheck) -> GateReport:
        labels = candidate.images.labels
        network = old.bundle.any_network()
        positions, lost = shared_tasks(network.tasks, candidate.network.tasks)
        before, after = list(positions.values()), list(positions)
        comparison = compare_answers(
            self._answers(network, self._pixels(candidate, old.bundle), before, "old version"),
            self._answers(candidate.network, candidate.images.pixels, after, "candidate"),
            labels[:, after],
            candidate.evaluation.split,
            self.request.gate.gate_resamples,
        )
        published = old.bundle.metrics.get("macro", {}).get("auroc")
        return GateReport(
            model=self.request.name,
            source=self.request.source,
            old=old.name,
            trained_from=self.run.plan.parent,
            comparison=comparison,
            conditions=judge(comparison, lost, check, published, self.request.gate),
            settings=self.request.gate,
            run=self.run.name,
        )

    def _answers(self, network: TaskNetwork, pixels: Pixels, tasks: list[int], who: str) -> Answers:
        device = self.settings.device
        with progress_display(self.console, f"evaluating the {who}") as progress:
            found = predict(network.to(device), pixels, advance=progress.update)
        return Answers([network.tasks[task] for task in tasks], [found[task] for task in tasks])

    def _pixels(self, candidate: Candidate, old: Bundle) -> Pixels:
        """The held-out images as the old version wants them.

        Raises:
            DataError: other images can be read this time.
        """
        new_spec, spec = candidate.network.config.preprocess, old.config.preprocess
        if _shape(new_spec) == _shape(spec):
            return candidate.images.pixels
        split = cast(Split, candidate.evaluation.split)
        images = decode_split(self.request.decoder, self.dataset, split, spec, self.console)
        if len(images) != len(candidate.images):
            raise DataError(
                f"{self.request.source}: {len(candidate.images)} of the {split} images could be "
                f"read before, now {len(images)}: the data changes while it is read",
                split=split,
            )
        return images.pixels


def shared_tasks(old: TaskSet, new: TaskSet) -> tuple[dict[int, int], tuple[str, ...]]:
    """New task indices with the old ones of the same name and classes, and old tasks without."""
    positions = {task.name: index for index, task in enumerate(new)}
    shared, lost = {}, []
    for index, task in enumerate(old):
        other = positions.get(task.name)
        if other is not None and new[other].classes == task.classes:
            shared[other] = index
        else:
            lost.append(task.name)
    return shared, tuple(lost)


def self_check(network: TaskNetwork) -> SelfCheck:
    """Whether the weights are numbers, and the cut network answers as the masked one does."""
    bad = tuple(
        name for name, value in network.state_dict().items() if not torch.isfinite(value).all()
    )
    if bad:
        return SelfCheck(error=float("inf"), not_finite=bad)
    device = next(network.parameters()).device
    batch = sample_batch(network, tasks=_CHECKED_TASKS)
    strategy: Strategy = "subnet" if isinstance(network, RoutedNetwork) else "masked"
    forward = make_forward(network, strategy, device)
    return SelfCheck(largest_probability_difference(forward, network, batch))


def _shape(spec: PreprocessConfig) -> tuple[object, ...]:
    """What decides pixels; normalisation is the network's."""
    return spec.height, spec.width, spec.fit, spec.background


def _card_section(report: GateReport) -> str:
    macro = report.comparison.macro["average_precision"]
    return (
        "\n## Refresh\n"
        f"Replaced version {report.old.version}; trained from version "
        f"{report.trained_from.version}. On the same {report.comparison.images} held-out images "
        f"the mean average precision was {macro.old:.4f} before and is {macro.new:.4f}; per task "
        "in `metrics.json`, under `refresh`.\n"
    )
