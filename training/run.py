"""One training run from SOURCE to published bundle, in the order of its steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from model.families import build, unfilled
from model.repository import Repository
from model.task_network import TaskNetwork
from model.tasks import TaskSet
from training.calibration import calibrated
from training.card import model_card
from training.config import TrainSettings
from training.curves import Curves
from training.decoding import Decoder, ImageSet
from training.distributed import Processes
from training.domains import find_domains
from training.ema import AveragedWeights
from training.errors import SettingsError
from training.evaluation import Evaluation, evaluate, with_thresholds
from training.evidence import check_network, start_config
from training.messages import say
from training.normalisation import measured, measured_by_domain
from training.prediction import predict_logits, task_probabilities
from training.preparation import check_labelled, decode_split, trainable
from training.progress import progress_display
from training.recalibration import SHARED_BATCHES, recalibrate, refresh_shared
from training.resumption import check_resumable, check_startable
from training.sources import SPLITS, Dataset, SourceOptions, Split, open_source
from training.state import StateFile
from training.threads import use_threads
from training.trainer import Trainer
from training.unreadable import FILE as UNREADABLE_FILE
from training.unreadable import UnreadableImages
from training.warm_start import read_warm_start

STATE_FOLDER = ".training"
"""Within the model's directory in the repository (for an object store: a local directory): the
state to resume from, and the list of images that could not be read."""


@dataclass(frozen=True)
class TrainRequest:
    """What to train, where to publish it, and what to do about an interrupted run."""

    source: str
    repository: str | Path
    name: str
    settings: TrainSettings
    resume: bool = False
    restart: bool = False
    """Throw away the state of an interrupted run."""
    resume_or_start: bool = False
    """Go on with an interrupted run where there is one, else begin: for a job that is started again
    without anybody to look at it."""
    decoder: Decoder = field(default_factory=Decoder)
    clock: Callable[[], float] = time.monotonic
    """Seconds, for the time limit of the training steps."""
    start_file: StateFile | None = None
    """Keeps the state in front of the first routes, where training chooses them."""
    answers: TaskSet | None = None
    """Train exactly these tasks, in this order and with these classes; None: what the data has."""
    state_folder: Path | None = None
    """Where the state to resume from is kept, and nothing else; None: in the model's directory."""


@dataclass(frozen=True)
class Published:
    """What a run led to."""

    version: int
    evaluation: Evaluation


@dataclass(frozen=True)
class Candidate:
    """A trained and evaluated network, to be published or not."""

    network: TaskNetwork
    images: ImageSet
    """The held-out images that it was evaluated on."""
    evaluation: Evaluation
    metrics: dict[str, Any]
    card: str


Release = Callable[[Candidate], int]
"""Publishes a candidate and returns its version, or raises. Called by the main process alone."""


def train(
    request: TrainRequest,
    console: Console,
    processes: Processes | None = None,
    release: Release | None = None,
) -> Published:
    """Read, decode, train, recalibrate, choose thresholds, evaluate, publish.

    Args:
        processes: those that train together, each of which calls this; None: this one alone. All
            return what the main one published.
        release: how to publish; None: as the next version.

    Raises:
        TaskRouteError: nothing was published; the message says what to do.
    """
    settings = request.settings
    processes = processes or Processes()
    _use_device(settings)
    state_file = _state_file(request, processes)
    if request.resume_or_start:  # machines need not share a disk: rank 0's counts
        request = replace(request, resume=processes.from_main(state_file.exists))
        begins = "an interrupted run goes on" if request.resume else "a new run begins"
        say(console, f"note: {begins}")
    # Before any image is decoded: a mistyped path should not cost that time.
    fresh_start = settings.init_from and not request.resume
    begin = read_warm_start(settings.init_from) if fresh_start else None
    if request.restart and processes.main:
        state_file.remove()
    if not request.resume and processes.main:
        check_startable(state_file)
    dataset = trainable(_opened(request))
    if request.resume and processes.main:
        check_resumable(state_file, settings, dataset)
    for note in dataset.notes:
        say(console, f"note: {note}")

    check_network(settings, dataset.tasks)
    unreadable = UnreadableImages(
        settings.max_unreadable_share,
        _folder(request) / UNREADABLE_FILE if processes.main else None,
    )
    unreadable.begin()
    splits: dict[Split, ImageSet] = {
        split: decode_split(
            request.decoder, dataset, split, settings.preprocess(), console, unreadable
        )
        for split in (SPLITS if processes.main else ("train",))
    }
    check_labelled(dataset, splits["train"])
    _check_same(processes, request, dataset, splits["train"])
    network = _network(settings, dataset, splits["train"])
    if begin is not None:
        say(console, begin.apply(network))
    trainer = _trainer(request, dataset, network, splits["train"], state_file, processes)
    with _curves(settings, splits, trainer) as trainer.curves:
        trainer.fit(progress_display(console, "training"))
    publish = release or _next_version(request)
    return processes.from_main(
        lambda: _published(request, dataset, splits, trainer, console, publish)
    )


def _opened(request: TrainRequest) -> Dataset:
    settings, answers = request.settings, request.answers
    options = SourceOptions(settings.split_seed, tuple(answers or ()))
    opened = open_source(request.source, options).with_tasks(settings.tasks)
    return opened if answers is None else opened.aligned(answers)


def _next_version(request: TrainRequest) -> Release:
    repository = Repository(request.repository)
    return lambda candidate: repository.publish(
        request.name, candidate.network, candidate.metrics, candidate.card
    )


def _curves(
    settings: TrainSettings, splits: Mapping[Split, ImageSet], trainer: Trainer
) -> AbstractContextManager[Curves | None]:
    if not (settings.tensorboard_dir and trainer.processes.main):
        return nullcontext()
    return Curves(Path(settings.tensorboard_dir), splits["val"], trainer.step)


def _published(
    request: TrainRequest,
    dataset: Dataset,
    splits: Mapping[Split, ImageSet],
    trainer: Trainer,
    console: Console,
    release: Release,
) -> Published:
    """What follows the training steps, up to the bundle."""
    settings, network = request.settings, _finished(trainer, splits, console)
    held_out: Split = "test" if len(splits["test"]) else "val"
    progress = progress_display(console, "evaluating")
    evaluation = evaluate(
        network, splits[held_out], held_out, progress, settings.bootstrap_resamples
    )
    about = _about(dataset, splits, trainer)
    candidate = Candidate(
        network,
        splits[held_out],
        evaluation,
        metrics=evaluation.to_json() | about,
        card=model_card(request.name, network.config, evaluation, about, dataset.notes),
    )
    version = release(candidate)
    trainer.state_file.remove()
    return Published(version, evaluation)


def _use_device(settings: TrainSettings) -> None:
    use_threads(settings.threads)
    try:
        torch.empty(1, device=settings.device)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"setting 'device' is {settings.device!r}: {error}") from error


def _check_same(
    processes: Processes, request: TrainRequest, dataset: Dataset, images: ImageSet
) -> None:
    """Refuse processes that would not train the same network on the same images."""
    processes.check_same(
        {
            "data (digest)": dataset.digest,
            "number of readable training images": len(images),
            "settings": request.settings.model_dump(mode="json"),
            "--resume": request.resume,
        }
    )
    processes.part(min(request.settings.batch_size, len(images)))


def _state_file(request: TrainRequest, processes: Processes) -> StateFile:
    """Where the run keeps its state; an unwritable repository fails now, not after training."""
    if processes.main:
        Repository(request.repository).check_writable(request.name)
    return StateFile(request.state_folder or _folder(request))


def _folder(request: TrainRequest) -> Path:
    return Repository(request.repository).workspace(request.name) / STATE_FOLDER


def _network(settings: TrainSettings, dataset: Dataset, images: ImageSet) -> TaskNetwork:
    """With random weights, and normalisation as the training images want it."""
    spec = measured(settings.preprocess(), images.pixels)
    tasks = tuple(dataset.tasks)
    if settings.normalisation == "domain":
        tasks = measured_by_domain(tasks, images)
    config = settings.network(tasks, spec)
    return build(start_config(settings, config), settings.seed)


def _trainer(
    request: TrainRequest,
    dataset: Dataset,
    network: TaskNetwork,
    images: ImageSet,
    state_file: StateFile,
    processes: Processes,
) -> Trainer:
    data = {"source": dataset.source, "digest": dataset.digest}
    trainer = Trainer(
        network,
        request.settings,
        images,
        state_file,
        data,
        request.clock,
        processes=processes,
        start_file=request.start_file,
    )
    if request.resume:
        trainer.resume()
    return trainer


def _finished(trainer: Trainer, splits: Mapping[Split, ImageSet], console: Console) -> TaskNetwork:
    """The trained network with its final batch-norm statistics and thresholds."""
    settings, network, val = trainer.settings, trainer.network, splits["val"]
    by_domain = settings.sampler == "domains"
    if trainer.averaged is not None:
        _use_averages(trainer.averaged, trainer, splits["train"], console)
    with progress_display(console, "batch-norm statistics") as progress:
        recalibrate(
            network,
            splits["train"].pixels,
            settings.recalibration_batches,
            settings.batch_size,
            settings.seed,
            progress.update,
            domains=find_domains(splits["train"].labels) if by_domain else None,
        )
    if not len(val):
        say(console, "note: no validation images: no calibration, every threshold stays at 0.5")
        return network
    with progress_display(console, "thresholds") as progress:
        logits = predict_logits(network, val.pixels, advance=progress.update, labels=val.labels)
    tasks = calibrated(network.tasks, logits, val.labels, settings.calibration)
    predictions = task_probabilities(tasks, logits)
    tasks = with_thresholds(tasks, predictions, val.labels, settings.threshold_objective)
    chosen = unfilled(network.config.replace(tasks=tasks)).to(trainer.device)
    chosen.load_state_dict(network.state_dict())
    return chosen.eval()


def _use_averages(
    averaged: AveragedWeights, trainer: Trainer, images: ImageSet, console: Console
) -> None:
    """Averaged weights in place of the last step's, with shared statistics that fit them."""
    averaged.copy_to(trainer.network)
    steps = range(trainer.step, trainer.step + SHARED_BATCHES)
    with progress_display(console, "averaged weights") as progress:
        refresh_shared(
            trainer.network,
            images.pixels,
            map(trainer.batch, steps),
            trainer.settings.compute,
            lambda done: progress.update(done, SHARED_BATCHES),
            labels=images.labels,
        )


def _about(dataset: Dataset, splits: Mapping[Split, ImageSet], trainer: Trainer) -> dict[str, Any]:
    """What ``metrics.json`` says beside the figures."""
    return {
        "data": {
            "source": dataset.source,
            "digest": dataset.digest,
            "images": {split: len(images) for split, images in splits.items()},
            "unreadable": {split: len(images.unreadable) for split, images in splits.items()},
            "split_seed": trainer.settings.split_seed,
        },
        "training": {
            "steps": trainer.step,
            "seconds": round(trainer.elapsed_s, 1),
            "settings": trainer.settings.model_dump(mode="json"),
        },
    }
