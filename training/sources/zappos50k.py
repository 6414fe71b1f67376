"""``zappos50k:ROOT``: UT-Zappos50K's shoes and four of their properties.

ROOT holds ``ut-zap50k-images/`` or ``ut-zap50k-images-square/``, and ``meta-data.csv`` beside it or
in ``ut-zap50k-data/``. The tasks are category, gender, heel height and closure. A cell that names
several values is no answer to "which one": it is a missing label.

The data set has no split. One is drawn so that no product, which comes in several colours, is on
two sides.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from model.tasks import Task, TaskSet
from training.sources.base import Dataset, Labels, SourceOptions
from training.sources.columns import encode
from training.sources.digests import files_digest
from training.sources.folder import Folder
from training.sources.labels import refusal
from training.sources.registry import SourceKind
from training.sources.splits import draw_split

GROUP = "shoe"
TASKS = {
    "category": "Category",
    "gender": "Gender",
    "heel_height": "HeelHeight",
    "closure": "Closure",
}
"""Column of the metadata for each task."""
_ID = "CID"
_SEVERAL = ";"


def read_zappos50k(argument: str, options: SourceOptions) -> Dataset:
    """The data set below ``argument``; DataError names the file that is missing or wrong."""
    root = Folder(f"zappos50k:{argument}", Path(argument))
    base = root.folder("ut-zap50k-images", "ut-zap50k-images-square")
    table = root.file("ut-zap50k-data/meta-data.csv", "meta-data.csv")
    shoes, columns = _read_metadata(root, table)
    images = root.images(base, _image_names(root, base, shoes, table), table)
    tasks, labels, notes = _tasks(root, columns)
    products = [shoe.partition("-")[0] for shoe in shoes]  # "100627-72": product, colour
    split = draw_split(products, options.split_seed, root.source)
    drawn = f"train, val, test drawn 80/10/10 by product (seed {options.split_seed})"
    return Dataset(
        source=root.source,
        digest=files_digest([table], images.paths()),
        tasks=tasks,
        labels=labels,
        split=split,
        images=images,
        notes=(*notes, drawn),
    )


def _read_metadata(root: Folder, path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Identifiers of the shoes, and the cells of each task's column."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise root.error(f"{path.name} cannot be read: {error}") from error
    header = reader.fieldnames or []
    missing = [name for name in (_ID, *TASKS.values()) if name not in header]
    if missing or not rows:
        problem = f"no column {missing[0]!r}" if missing else "no rows below the header"
        raise root.error(f"{path.name} has {problem}; its header is {', '.join(header)}")
    for number, row in enumerate(rows, 2):
        if None in row.values():
            raise root.error(f"{path.name}, line {number}: fewer cells than the header has columns")
    return [row[_ID].strip() for row in rows], {
        task: [row[column].strip() for row in rows] for task, column in TASKS.items()
    }


def _image_names(root: Folder, base: Path, shoes: Sequence[str], table: Path) -> list[str]:
    """Each shoe's file below ``base``: ``100627-72`` is ``100627.72.jpg`` in one of its folders."""
    files = {path.stem: path.relative_to(base).as_posix() for path in base.rglob("*.jpg")}
    stems = [shoe.replace("-", ".") for shoe in shoes]
    missing = [stem for stem in stems if stem not in files]
    if missing:
        raise root.error(
            f"{len(missing)} of the {len(shoes)} shoes in {table.name} have no image in {base}, "
            f"the first {missing[0]}.jpg; unpack the images again"
        )
    return [files[stem] for stem in stems]


def _tasks(root: Folder, columns: dict[str, list[str]]) -> tuple[TaskSet, Labels, tuple[str, ...]]:
    """The four tasks, labels [N, 4], and a note on cells that name several values."""
    single = {
        name: ["" if _SEVERAL in cell else cell for cell in cells]
        for name, cells in columns.items()
    }
    try:
        tasks = TaskSet(
            Task(name=name, group=GROUP, classes=tuple(sorted(set(cells) - {""})))
            for name, cells in single.items()
        )
    except ValidationError as error:
        raise root.error(f"its columns cannot be tasks: {refusal(error)}") from error
    labels = [encode(single[task.name], task, str) for task in tasks]
    several = {name: sum(_SEVERAL in cell for cell in cells) for name, cells in columns.items()}
    counted = ", ".join(f"{count} of {name}" for name, count in several.items() if count)
    notes = (f"missing labels, since several values are given: {counted}",) if counted else ()
    return tasks, np.stack(labels, axis=1), notes


KIND = SourceKind("zappos50k", "ROOT", "UT-Zappos50K as downloaded", read_zappos50k)
