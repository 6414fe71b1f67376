"""``cub200:ROOT[,certainty=2][,labels=image][,split=official]``: CUB-200-2011's 312 attributes.

ROOT is ``CUB_200_2011`` or the folder that holds it; ``attributes.txt`` may lie in ``attributes/``,
in ROOT, or beside it, where the archive puts it.

- ``labels=image``: the answers of the people who looked at each image. They said how certain they
  were: 1 not visible, 2 guessing, 3 probably, 4 definitely. Answers less certain than ``certainty``
  are missing labels: by default those about what cannot be seen, which are all "no".
- ``labels=class``: the same for all images of a species, *yes* where at least half of the answers
  about it were.
- ``split=species`` draws a split in which no species is on two sides; the official one has every
  species on both, and no val, which is drawn from train.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from training.errors import DataError
from training.sources.base import MISSING, Dataset, Labels, SourceOptions
from training.sources.choices import read_choices
from training.sources.digests import files_digest
from training.sources.folder import Folder, read_rows
from training.sources.labels import binary_tasks
from training.sources.registry import SourceKind
from training.sources.splits import draw_split, with_val

_CHOICES = {
    "certainty": ("2", "1", "3", "4"),
    "labels": ("image", "class"),
    "split": ("official", "species"),
}
_LABEL_FILES = {
    "image": "attributes/image_attribute_labels.txt",
    "class": "attributes/class_attribute_labels_continuous.txt",
}
_CERTAINTIES = range(1, 5)
_PRESENT_PERCENT = 50.0

Ids = NDArray[np.int64]
Number = TypeVar("Number", np.int64, np.float64)


def read_cub200(argument: str, options: SourceOptions) -> Dataset:
    """The data set below ``argument``; DataError names the file and line that is wrong."""
    path, choices = read_choices("cub200", argument, _CHOICES)
    root = Folder(f"cub200:{argument}", path).below("CUB_200_2011")
    tables = _tables(root, choices["labels"])
    named = _by_id(tables["images"])
    ids = np.array(list(named), dtype=np.int64)
    notes: tuple[str, ...] = ()
    attributes = [name for _, name in sorted(_by_id(tables["attributes"]).items())]
    species = _species(root, tables, ids)
    if choices["labels"] == "class":
        labels = _class_labels(root, tables["labels"], species, len(attributes))
    else:
        answers = _answers(root, tables["labels"], ids, len(attributes))
        labels, notes = _certain(answers, int(choices["certainty"]))
    split, split_notes = _split(root, tables, choices["split"], ids, species, options.split_seed)
    images = root.images(root.folder("images"), list(named.values()), tables["images"])
    groups = [name.partition("::")[0] for name in attributes]
    return Dataset(
        source=root.source,
        digest=files_digest(tables.values(), images.paths(), str(sorted(choices.items()))),
        tasks=binary_tasks(attributes, groups, root.source),
        labels=labels,
        split=split,
        images=images,
        notes=notes + split_notes,
    )


def _tables(root: Folder, labels: str) -> dict[str, Path]:
    """Every table that is read; one that is missing is said before any of them is."""
    return {
        "images": root.file("images.txt"),
        "classes": root.file("classes.txt"),
        "species": root.file("image_class_labels.txt"),
        "split": root.file("train_test_split.txt"),
        "attributes": root.file("attributes/attributes.txt", "attributes.txt", "../attributes.txt"),
        "labels": root.file(_LABEL_FILES[labels]),
    }


def _by_id(path: Path) -> dict[int, str]:
    """``ID VALUE`` lines in their order."""
    values: dict[int, str] = {}
    for line, (number, value) in read_rows(path, 2):
        if not number.isdigit() or int(number) in values:
            what = "occurs twice" if number.isdigit() else "is no number"
            raise DataError(f"{path}, line {line}: id {number!r} {what}", line=line)
        values[int(number)] = value
    if not values:
        raise DataError(f"{path}: empty", path=str(path))
    return values


def _of_images(root: Folder, path: Path, ids: Ids, allowed: range) -> NDArray[np.int64]:
    """The whole number that a table has for each image [N]."""
    values = _by_id(path)
    missing = [number for number in ids.tolist() if number not in values]
    if missing:
        raise root.error(
            f"{path.name} has {len(values)} images and lacks {len(missing)} of the {len(ids)} in "
            f"images.txt, the first with id {missing[0]}; unpack the archive again"
        )
    for number in ids.tolist():
        if not values[number].isdigit() or int(values[number]) not in allowed:
            raise root.error(
                f"{path.name} has {values[number]!r} for image {number}; expected "
                f"{allowed[0]} to {allowed[-1]}"
            )
    return np.array([int(values[number]) for number in ids.tolist()])


def _species(root: Folder, tables: dict[str, Path], ids: Ids) -> NDArray[np.int64]:
    """Each image's species [N], counted from 1."""
    count = len(_by_id(tables["classes"]))
    return _of_images(root, tables["species"], ids, range(1, count + 1))


def _answers(root: Folder, path: Path, ids: Ids, attributes: int) -> NDArray[np.int64]:
    """What was said of each image and attribute, and how certain that was [N, T, 2].

    Some lines of the official file have cells too many; what is needed are their first four.
    """
    rows = _numbers(root, path, np.int64, (0, 1, 2, 3))
    image, attribute, present, certainty = rows.T
    order = np.argsort(ids)
    found = order[np.clip(np.searchsorted(ids, image, sorter=order), 0, len(ids) - 1)]
    wrong = (
        (ids[found] != image)
        | (attribute < 1)
        | (attribute > attributes)
        | (present < 0)
        | (present > 1)
        | (certainty < _CERTAINTIES[0])
        | (certainty > _CERTAINTIES[-1])
    )
    if wrong.any():
        at = int(np.argmax(wrong))
        raise root.error(
            f"{path.name}, line {at + 1}: {' '.join(map(str, rows[at]))}; expected an image's id, "
            f"an attribute from 1 to {attributes}, 0 or 1, and a certainty from 1 to 4",
            line=at + 1,
        )
    answers = np.full((len(ids), attributes, 2), MISSING)
    answers[found, attribute - 1] = np.stack([present, certainty], axis=1)
    absent = int((answers[..., 0] == MISSING).sum())
    if absent:
        raise root.error(
            f"{path.name} lacks {absent} of {len(ids) * attributes} labels ({len(ids)} images x "
            f"{attributes} attributes); unpack the archive again"
        )
    return answers


def _certain(answers: NDArray[np.int64], least: int) -> tuple[Labels, tuple[str, ...]]:
    """Labels [N, T] without those less certain than ``least``, and a note on how many these are."""
    doubtful = answers[..., 1] < least
    labels = np.where(doubtful, MISSING, answers[..., 0]).astype(np.int16)
    if not doubtful.any():
        return labels, ()
    return labels, (f"{doubtful.mean():.1%} of the labels are missing: less certain than {least}",)


def _class_labels(root: Folder, path: Path, species: NDArray[np.int64], attributes: int) -> Labels:
    """Labels [N, T] of each image's species, from the percentage of *yes* about it."""
    percent = _numbers(root, path, np.float64)
    if percent.shape[0] < species.max() or percent.shape[1] != attributes:
        raise root.error(
            f"{path.name} has {percent.shape[0]} lines of {percent.shape[1]} percentages; expected "
            f"one line for each of {species.max()} species, of {attributes} attributes"
        )
    return (percent[species - 1] >= _PRESENT_PERCENT).astype(np.int16)


def _numbers(
    root: Folder, path: Path, kind: type[Number], columns: Sequence[int] | None = None
) -> NDArray[Number]:
    """A table of numbers, or some columns of it; there are millions of lines."""
    if not path.stat().st_size:
        raise root.error(f"{path.name} is empty; unpack the archive again")
    try:
        return np.loadtxt(path, kind, comments=None, usecols=columns, ndmin=2)
    except (ValueError, OSError) as error:
        raise root.error(f"{path.name}{_wrong_line(path, columns)}: {error}") from error


def _wrong_line(path: Path, columns: Sequence[int] | None) -> str:
    """Where a table that numpy refuses goes wrong: numpy counts rows from 0 or 1 as it happens."""
    width = 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            cells = line.split()
            try:
                for cell in cells if columns is None else [cells[index] for index in columns]:
                    float(cell)
            except (ValueError, IndexError):
                return f", line {number}, {line.strip()[:60]!r}"
            if columns is None and width not in (0, len(cells)):
                return f", line {number}, {len(cells)} numbers instead of {width}"
            width = len(cells)
    return ""


def _split(
    root: Folder,
    tables: dict[str, Path],
    choice: str,
    ids: Ids,
    species: NDArray[np.int64],
    seed: int,
) -> tuple[NDArray[np.str_], tuple[str, ...]]:
    if choice == "species":
        keys = [f"species {number}" for number in species.tolist()]
        note = f"train, val, test drawn 80/10/10 by species (seed {seed})"
        return draw_split(keys, seed, root.source), (note,)
    training = _of_images(root, tables["split"], ids, range(2))
    official = np.where(training == 1, "train", "test")
    return with_val(official, [str(number) for number in ids.tolist()], seed, root.source)


KIND = SourceKind(
    "cub200",
    "ROOT[,certainty=N][,labels=class][,split=species]",
    "CUB-200-2011 as downloaded",
    read_cub200,
)
