"""``builtin:fashion``: the sample that comes with the project (Fashion-MNIST, MIT licence)."""

from __future__ import annotations

from pathlib import Path

import training
from training.errors import DataError, SourceError
from training.sources.archive import read_archive
from training.sources.base import Dataset, SourceOptions
from training.sources.digests import file_digest
from training.sources.fashion_tasks import fashion_tasks
from training.sources.pack import Pack
from training.sources.registry import SourceKind

FOLDER = Path(training.__file__).parent / "builtin"


def read_builtin(argument: str, options: SourceOptions) -> Dataset:
    """The built-in data set called ``argument``; SourceError for an unknown one."""
    path = FOLDER / "fashion.npz"
    if argument != "fashion":
        raise SourceError(
            f"builtin:{argument} is unknown; the built-in data set is builtin:fashion"
        )
    pack = Pack(path, read_archive(path))
    images = pack.images()
    y = pack.class_index(len(images))
    if y is None:
        raise DataError(f"{path}: no class labels; install the project again")
    tasks, labels = fashion_tasks(y, pack.class_names(y))
    split, notes = pack.split(images, options.split_seed)
    return Dataset(
        source=f"builtin:{argument}",
        digest=file_digest(path),
        tasks=tasks,
        labels=labels,
        split=split,
        images=images,
        notes=notes,
    )


KIND = SourceKind("builtin", "fashion", "the sample that comes with the project", read_builtin)
