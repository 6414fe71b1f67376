"""Adding tasks, from SOURCE to the next version, in the order of its steps."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from model.assembly import TaskPart, assemble, task_parts
from model.bundle import CARD, Bundle
from model.errors import ConfigError
from model.network import RoutedNetwork
from model.repository import Repository
from model.tasks import Normalisation, Task
from training.adding.features import Features, prefix_end, prefix_features
from training.adding.figures import Added, card_with, metrics_with
from training.adding.settings import AddSettings
from training.adding.subnet import alone, logits, train_part
from training.adding.tail import Labelled
from training.adding.unmoved import check_unmoved
from training.bootstrap import bootstrap
from training.calibration import calibrated
from training.decoding import Decoder, ImageSet
from training.errors import DataError
from training.evaluation import with_thresholds
from training.messages import say
from training.metrics import TaskFigures, task_figures
from training.normalisation import measured
from training.prediction import task_probabilities
from training.preparation import check_labelled, decode_split
from training.progress import progress_display
from training.sources import MISSING, SPLITS, Dataset, Labels, SourceOptions, Split, open_source
from training.unreadable import MAX_SHARE, UnreadableImages

FEATURES_FOLDER = "features"


@dataclass(frozen=True)
class AddRequest:
    """Which tasks to add to which model, from what."""

    source: str
    tasks: Sequence[str]
    """Names in the source, or group:NAME."""
    repository: str | Path
    name: str
    settings: AddSettings
    work_dir: Path
    """Where features are kept from one addition to the next."""
    version: int | None = None
    """The parent; None: the latest."""
    group: str | None = None
    """Of the new tasks; None: as the source has them."""
    max_unreadable_share: float = MAX_SHARE
    decoder: Decoder = field(default_factory=Decoder)


@dataclass(frozen=True)
class AddedVersion:
    """What was published."""

    version: int
    parent: int
    figures: dict[str, TaskFigures]
    """Of the new tasks, by name."""
    seconds: float
    cpu_seconds: float


def add_tasks(request: AddRequest, console: Console) -> AddedVersion:
    """Train new tasks on frozen shared weights, and publish them beside the old ones.

    Raises:
        TaskRouteError: nothing was published; the message says what to do.
    """
    began, began_cpu = time.monotonic(), time.process_time()
    repository = Repository(request.repository)
    version = request.version or repository.latest(request.name)
    repository.check_writable(request.name)  # not only after the training
    bundle = repository.read(request.name, version)
    parent = bundle.network()
    if request.settings.like:
        parent.tasks.position(request.settings.like)  # a mistyped name fails now
    dataset = _new_tasks(request, version, bundle)
    for line in dataset.notes:
        say(console, f"note: {line}")
    sets = _decoded(request, parent, dataset, console)
    check_labelled(dataset, sets["train"])
    own = _normalisation(parent, request.settings, sets["train"])
    data = _features(request, parent, dataset, sets, own, console)

    settings, parts = request.settings, task_parts(parent)
    found: list[Added] = []
    for index, asked in enumerate(dataset.tasks):
        task = asked.model_copy(update={"normalisation": own})
        labelled = {split: data[split].of_task(index) for split in SPLITS}
        note = partial(_note, console, task.name)
        part = train_part(parent, task, labelled["train"], labelled["val"], settings, note)
        part, added = _decided(parent, part, labelled, settings)
        parts.append(part)
        found.append(added)
    grown = assemble(parent, parts)
    held_out = next(sets[split] for split in ("test", "val", "train") if len(sets[split]))
    check_unmoved(parent, grown, held_out)
    about = {
        "parent": version,
        "source": dataset.source,
        "digest": dataset.digest,
        "images": {split: len(data[split].labels) for split in SPLITS},
        "settings": asdict(settings),
        "seconds": round(time.monotonic() - began, 1),
    }
    card = (bundle.path / CARD).read_text(encoding="utf-8")
    published = repository.publish(
        request.name,
        grown,
        metrics=metrics_with(bundle.metrics, grown.tasks, found, about),
        card=card_with(card, found, about),
        parent=version,
    )
    return AddedVersion(
        published, version, {one.task.name: one.figures for one in found},
        time.monotonic() - began, time.process_time() - began_cpu,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _SplitData:
    """One split's features, of the mirrored images too, and labels of all new tasks."""

    features: Features
    labels: Labels  # [len(features), T]

    def of_task(self, index: int) -> Labelled:
        return Labelled(self.features, self.labels[:, index])


def _new_tasks(request: AddRequest, version: int, bundle: Bundle) -> Dataset:
    """The source's images with a label of any new task, and those tasks.

    Raises:
        ConfigError: a name that the model has already.
        DataError: a task that cannot be learnt from these labels.
    """
    split_seed = bundle.metrics.get("data", {}).get("split_seed", 0)
    dataset = open_source(request.source, SourceOptions(split_seed)).with_tasks(request.tasks)
    present = [name for name in dataset.tasks.names if name in bundle.config.task_set.names]
    if present:
        raise ConfigError(
            f"{request.name} version {version} has a task {present[0]!r} already; to "
            "train it anew remove it first (remove-task), to keep both rename it (rename-task)",
            task=present[0],
        )
    if request.group is not None:
        tasks = [task.model_copy(update={"group": request.group}) for task in dataset.tasks]
        dataset = replace(dataset, tasks=type(dataset.tasks)(map(_valid, tasks)))
    for index, task in enumerate(dataset.tasks):
        column = dataset.labels[dataset.indices("train"), index]
        if len(np.unique(column[column != MISSING])) < 2:
            raise DataError(
                f"{request.source}: the training images have fewer than two of the classes "
                f"{', '.join(task.classes)} of task {task.name!r}: nothing to learn",
                task=task.name,
            )
    labelled = (dataset.labels != MISSING).any(axis=1)
    # An image without any of these labels belongs to no split: it is not decoded.
    return replace(dataset, split=np.where(labelled, dataset.split, ""))


def _note(console: Console, task: str, text: str) -> None:
    say(console, f"{task}: {text}")


def _valid(task: Task) -> Task:
    return Task.model_validate(task.model_dump())


def _decoded(
    request: AddRequest, parent: RoutedNetwork, dataset: Dataset, console: Console
) -> dict[Split, ImageSet]:
    unreadable = UnreadableImages(request.max_unreadable_share)
    spec = parent.config.preprocess
    return {
        split: decode_split(request.decoder, dataset, split, spec, console, unreadable)
        for split in SPLITS
    }


def _normalisation(
    parent: RoutedNetwork, settings: AddSettings, images: ImageSet
) -> Normalisation | None:
    """Of the new tasks: where the parent's have their own, that of ``like``, or of ``images``."""
    if settings.like:
        return parent.tasks[parent.tasks.position(settings.like)].normalisation
    if all(task.normalisation is None for task in parent.tasks):
        return None
    found = measured(parent.config.preprocess, images.pixels)
    return Normalisation(mean=found.mean, std=found.std)


def _features(
    request: AddRequest,
    parent: RoutedNetwork,
    dataset: Dataset,
    sets: Mapping[Split, ImageSet],
    own: Normalisation | None,
    console: Console,
) -> dict[Split, _SplitData]:
    """Every split's features."""
    flip = request.settings.flip
    folder = request.work_dir / FEATURES_FOLDER
    data: dict[Split, _SplitData] = {}
    for split, images in sets.items():
        mirrored = flip and split == "train"
        source = f"{dataset.digest} {split} {dataset.indices(split).tolist()} {len(images)}"
        with progress_display(console, f"features of {split}") as progress:
            features = prefix_features(
                parent, images.pixels, source, folder,
                flip=mirrored, own=own, advance=progress.update,
            )  # fmt: skip
        labels = np.concatenate([images.labels] * (2 if mirrored else 1))
        data[split] = _SplitData(features, labels)
    if prefix_end(parent):
        say(console, f"features of the frozen layers are kept in {folder}")
    return data


def _decided(
    parent: RoutedNetwork, part: TaskPart, data: dict[Split, Labelled], settings: AddSettings
) -> tuple[TaskPart, Added]:
    """With calibration and threshold from validation images; and its held-out figures."""
    network, task = alone(parent, part), part.task
    answers = {
        split: logits(network, one.features, one.rows).numpy() for split, one in data.items()
    }
    labels = {split: one.labels[one.rows] for split, one in data.items()}
    if len(labels["val"]):
        known = labels["val"][:, None]
        tasks = calibrated([task], [answers["val"]], known, settings.calibration)
        probabilities = task_probabilities(tasks, [answers["val"]])
        (task,) = with_thresholds(tasks, probabilities, known, settings.threshold_objective)
    held_out: Split = "test" if len(labels["test"]) else "val"
    (found,) = task_probabilities([task], [answers[held_out]])
    observed = labels[held_out]
    intervals = (
        bootstrap([task], [found], observed[:, None], settings.resamples).tasks[task.name]
        if settings.resamples and len(observed)
        else None
    )
    return part.with_task(task), Added(task, task_figures(task, found, observed), intervals)
