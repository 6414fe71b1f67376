"""From a described data set to decoded images that can be trained on."""

from __future__ import annotations

import itertools
from dataclasses import replace

from rich.console import Console

from model.config import PreprocessConfig
from training.decoding import Decoder, ImageSet
from training.errors import DataError
from training.messages import say
from training.progress import progress_display
from training.sources import MISSING, Dataset, Split
from training.unreadable import UnreadableImages


def trainable(dataset: Dataset) -> Dataset:
    """The data set without the tasks that no training image has a label for.

    Raises:
        DataError: no training images, or no tasks left.
    """
    train = dataset.indices("train")
    if not len(train):
        raise DataError(f"{dataset.source}: no training images: split `train` is empty")
    labelled = (dataset.labels[train] != MISSING).any(axis=0).tolist()
    if all(labelled):
        return dataset
    names = dataset.tasks.names
    left_out = ", ".join(itertools.compress(names, [not any_label for any_label in labelled]))
    if not any(labelled):
        raise DataError(
            f"{dataset.source}: no tasks left: no training image has a label for {left_out}"
        )
    kept = dataset.with_tasks(list(itertools.compress(names, labelled)))
    note = f"left out, since no training image has a label: {left_out}"
    return replace(kept, notes=(*kept.notes, note))


def check_labelled(dataset: Dataset, images: ImageSet) -> None:
    """Refuse tasks whose training labels are all of images that cannot be read.

    Args:
        images: the training images.

    Raises:
        DataError: names the tasks.
    """
    labelled = (images.labels != MISSING).any(axis=0).tolist()
    if all(labelled):
        return
    lost = list(itertools.compress(dataset.tasks.names, [not any_label for any_label in labelled]))
    raise DataError(
        f"{dataset.source}: every training image with a label for {', '.join(lost)} is one of the "
        f"{len(images.unreadable)} that cannot be read: repair those files, or train the other "
        "tasks only",
        tasks=lost,
    )


def decode_split(
    decoder: Decoder,
    dataset: Dataset,
    split: Split,
    spec: PreprocessConfig,
    console: Console,
    unreadable: UnreadableImages | None = None,
) -> ImageSet:
    """One split's images, with a word about those that cannot be read.

    Args:
        unreadable: how many of them are too many, and where they are listed.

    Raises:
        DataError: too many.
    """
    total, done = dataset.counts()[split], 0
    with progress_display(console, f"decoding {split}") as progress:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress.update(done, total)

        images = decoder.decode(dataset, split, spec, advance)
    if images.unreadable:
        said = (unreadable or UnreadableImages()).report(
            dataset.source, split, total, images.unreadable
        )
        say(console, f"note: {said}")
    return images
