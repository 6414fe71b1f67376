"""``decathlon:ROOT[,domains=NAME+NAME]``: the Visual Decathlon's domains, a task each.

ROOT is ``decathlon-1.0`` or the folder that holds it: ``annotations/NAME_train.json``, ``_val`` and
``_test`` in COCO's form, and the images that these name below ``data/``. An image has a label for
its own domain's task, and none for the others.

The test labels were never published (``_test_stripped.json``): a domain without ``_test.json`` has
no test images here, and a run without any is measured on val.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from model.tasks import Task, TaskSet
from training.errors import SourceError
from training.sources.base import MISSING, SPLITS, Dataset, SourceOptions
from training.sources.choices import read_choices
from training.sources.digests import files_digest
from training.sources.folder import Folder
from training.sources.labels import refusal
from training.sources.registry import SourceKind

GROUP = "domain"
_IMAGES = "data"


@dataclass(slots=True)
class _Image:
    id: int
    file_name: str


@dataclass(slots=True)
class _Annotation:
    image_id: int
    category_id: int


@dataclass(slots=True)
class _Category:
    id: int
    name: str


@dataclass(slots=True)
class _Coco:
    """What is read of a COCO file; it holds more."""

    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


_COCO = TypeAdapter(_Coco)


@dataclass(frozen=True)
class _Part:
    """One domain's images of one split."""

    file: Path
    split: str
    names: Sequence[str]
    labels: Sequence[int]
    """Category ids."""
    categories: dict[int, str]
    """Names by id."""


def read_decathlon(argument: str, options: SourceOptions) -> Dataset:
    """The data set below ``argument``; DataError names the file that is missing or wrong."""
    path, choices = read_choices("decathlon", argument, {"domains": ("",)})
    root = Folder(f"decathlon:{argument}", path).below("decathlon-1.0")
    folder = root.folder("annotations")
    domains = _domains(root, folder, choices["domains"])
    parts = {domain: _parts(root, folder, domain) for domain in domains}
    flat = [part for domain in domains for part in parts[domain]]
    names = [name for part in flat for name in part.names]
    labels = np.full((len(names), len(domains)), MISSING, dtype=np.int16)
    start = 0
    for column, domain in enumerate(domains):
        index = {number: place for place, number in enumerate(sorted(parts[domain][0].categories))}
        for part in parts[domain]:
            end = start + len(part.names)
            labels[start:end, column] = [_index(root, part, index, one) for one in part.labels]
            start = end
    if not (root.path / _IMAGES).is_dir():  # the images' archives, unpacked in ROOT itself
        names = [name.removeprefix(f"{_IMAGES}/") for name in names]
    images = root.images(root.path, names, folder)
    untested = [name for name in domains if parts[name][-1].split != "test"]
    return Dataset(
        source=root.source,
        digest=files_digest((part.file for part in flat), images.paths(), "+".join(domains)),
        tasks=TaskSet(_task(root, domain, parts[domain][0].categories) for domain in domains),
        labels=labels,
        split=np.repeat([part.split for part in flat], [len(part.names) for part in flat]),
        images=images,
        notes=(f"no test labels: {', '.join(untested)}",) if untested else (),
    )


def _domains(root: Folder, folder: Path, chosen: str) -> list[str]:
    """The domains that are there, or those of them that were chosen."""
    there = sorted(path.name.removesuffix("_train.json") for path in folder.glob("*_train.json"))
    if not there:
        raise root.error(f"{folder} has no file NAME_train.json; unpack the devkit there")
    wanted = chosen.split("+") if chosen else there
    unknown = [domain for domain in wanted if domain not in there]
    if unknown or len(set(wanted)) < len(wanted):
        problem = f"no domain {unknown[0]!r}" if unknown else "a domain twice"
        raise SourceError(f"{root.source}: {problem}; {folder} has {', '.join(there)}")
    return wanted


def _parts(root: Folder, folder: Path, domain: str) -> list[_Part]:
    """Train, val and, where its labels are known, test."""
    root.file(f"{folder.name}/{domain}_val.json")
    files = {split: folder / f"{domain}_{split}.json" for split in SPLITS}
    return [_read_part(root, path, split) for split, path in files.items() if path.is_file()]


def _read_part(root: Folder, path: Path, split: str) -> _Part:
    try:
        coco = _COCO.validate_json(path.read_bytes())
    except OSError as error:
        raise root.error(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise root.error(f"{path} is no annotation file: {place}: {first['msg']}") from error
    labels = {one.image_id: one.category_id for one in coco.annotations}
    if len(labels) != len(coco.annotations) or labels.keys() != {one.id for one in coco.images}:
        raise root.error(
            f"{path} has {len(coco.images)} images and {len(coco.annotations)} annotations of "
            f"{len(labels)} images; expected one annotation for each image"
        )
    return _Part(
        path,
        split,
        [image.file_name for image in coco.images],
        [labels[image.id] for image in coco.images],
        {one.id: one.name for one in coco.categories},
    )


def _index(root: Folder, part: _Part, index: dict[int, int], category: int) -> int:
    try:
        return index[category]
    except KeyError:
        raise root.error(
            f"{part.file} has category {category}, which its domain's training file does not list"
        ) from None


def _task(root: Folder, domain: str, categories: dict[int, str]) -> Task:
    """A domain's question; names that several categories share get their id beside them."""
    counts = Counter(categories.values())
    classes = tuple(
        name if counts[name] == 1 else f"{name} ({number})"
        for number, name in sorted(categories.items())
    )
    try:
        return Task(name=domain, group=GROUP, classes=classes)
    except ValidationError as error:
        raise root.error(f"domain {domain!r} is no task: {refusal(error)}") from error


KIND = SourceKind(
    "decathlon", "ROOT[,domains=A+B]", "the Visual Decathlon as downloaded", read_decathlon
)
