"""``celeba:ROOT[,split=identity]``: CelebA's aligned images and their 40 attributes.

ROOT holds ``img_align_celeba/``, ``list_attr_celeba.txt``, ``list_eval_partition.txt`` and, where
who is in the images is known, ``identity_CelebA.txt``: side by side, or in ``Img/``, ``Anno/`` and
``Eval/`` as downloaded. The official split is used; ``split=identity`` draws one in which no person
is on two sides.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.sources.base import Dataset, Labels, SourceOptions
from training.sources.choices import read_choices
from training.sources.digests import files_digest
from training.sources.folder import Folder, read_rows
from training.sources.labels import binary_tasks
from training.sources.registry import SourceKind
from training.sources.splits import draw_split, split_keys, with_val

GROUP = "attribute"
_ATTRIBUTES = "list_attr_celeba.txt"
_PARTITION = "list_eval_partition.txt"
_IDENTITY = "identity_CelebA.txt"
_SIDES = {"0": "train", "1": "val", "2": "test"}
_ANSWERS = {"-1": 0, "1": 1}


def read_celeba(argument: str, options: SourceOptions) -> Dataset:
    """The data set below ``argument``; DataError names the file and line that is wrong."""
    path, choices = read_choices("celeba", argument, {"split": ("official", "identity")})
    root = Folder(f"celeba:{argument}", path)
    base = root.folder("img_align_celeba", "Img/img_align_celeba")
    if (base / base.name).is_dir():  # one widespread archive has the folder twice
        base = base / base.name
    listing = root.file(_ATTRIBUTES, f"Anno/{_ATTRIBUTES}")
    names, attributes, labels = _read_attributes(root, listing)
    split, notes, tables = _split(root, choices["split"], names, options.split_seed)
    images = root.images(base, names, listing)
    return Dataset(
        source=root.source,
        digest=files_digest([listing, *tables], images.paths(), choices["split"]),
        tasks=binary_tasks(attributes, [GROUP] * len(attributes), root.source),
        labels=labels,
        split=split,
        images=images,
        notes=notes,
    )


def _read_attributes(root: Folder, path: Path) -> tuple[list[str], list[str], Labels]:
    """Image names, attribute names, and labels [N, T]."""
    with path.open(encoding="utf-8", errors="replace") as file:
        count, attributes = file.readline().strip(), file.readline().split()
    if not count.isdigit() or not attributes:
        raise root.error(
            f"{path.name} begins with {count!r}; expected the number of images, then a line of "
            "attribute names"
        )
    names: list[str] = []
    rows: list[list[int]] = []
    for line, (name, *cells) in read_rows(path, 1 + len(attributes), skip=2):
        try:
            rows.append([_ANSWERS[cell] for cell in cells])
        except KeyError as error:
            raise root.error(
                f"{path.name}, line {line}: {error.args[0]!r}; expected -1 or 1", line=line
            ) from None
        names.append(name)
    if len(names) != int(count):
        raise root.error(
            f"{path.name} says {count} images and lists {len(names)}; download it again"
        )
    return names, attributes, np.array(rows, dtype=np.int16).reshape(-1, len(attributes))


def _split(
    root: Folder, choice: str, names: list[str], seed: int
) -> tuple[NDArray[np.str_], tuple[str, ...], list[Path]]:
    """The split, notes on what was drawn, and the tables it was read from."""
    people, tables = _people(root, choice, names)
    keys = split_keys(names, people)
    if choice == "identity":
        note = f"train, val, test drawn 80/10/10 by identity (seed {seed})"
        return draw_split(keys, seed, root.source), (note,), tables
    partition = root.file(_PARTITION, f"Eval/{_PARTITION}")
    sides = _column(root, partition, names)
    unknown = sorted(set(sides) - _SIDES.keys())
    if unknown:
        raise root.error(f"{partition.name} has {unknown[0]!r}; expected 0, 1 or 2")
    official = np.array([_SIDES[side] for side in sides])
    split, notes = with_val(official, keys, seed, root.source)
    return split, notes, [partition, *tables]


def _people(root: Folder, choice: str, names: list[str]) -> tuple[list[str] | None, list[Path]]:
    """Who is in each image, where that is known; it has to be for a split by identity."""
    places = (_IDENTITY, f"Anno/{_IDENTITY}")
    if choice != "identity" and not any((root.path / place).is_file() for place in places):
        return None, []
    path = root.file(*places)
    return _column(root, path, names), [path]


def _column(root: Folder, path: Path, names: list[str]) -> list[str]:
    """The second column of a list of images, in the order of ``names``."""
    column = {name: value for _, (name, value) in read_rows(path, 2)}
    missing = [name for name in names if name not in column]
    if missing:
        raise root.error(
            f"{path.name} lists {len(column)} images and lacks {len(missing)} of the {len(names)} "
            f"that have attributes, the first {missing[0]}; download it again"
        )
    return [column[name] for name in names]


KIND = SourceKind("celeba", "ROOT[,split=identity]", "CelebA as downloaded", read_celeba)
