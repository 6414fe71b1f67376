"""``pack:FILE.npz``: an image pack.

Images are ``jpeg`` with ``offsets`` (N + 1), or ``images``, or one array per split (``x_train``,
``x_test``, ...). Labels are ``attr`` (N, T; 0, 1, and 255 or -1 for missing) with ``attr_names``,
and/or ``y`` (N; -1 for missing; ``y_train``, ... beside ``x_train``, ...) with ``class_names``.
``split`` holds train, val, test, and ``split_group`` (N) what must not be on two sides of it, such
as the person in the image. Attribute names of the form ``group::value`` name their group. ``y``
becomes the multi-class task ``category``, and where there is no ``attr`` one binary task for each
class as well.

``pack:FILE.npz,labels=TABLE.csv`` adds the columns of a table beside the pack
(:mod:`training.sources.label_table`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from model.errors import ConfigError
from model.tasks import Task, TaskSet
from training.errors import DataError
from training.sources.archive import Array, read_archive
from training.sources.base import MISSING, SPLITS, Dataset, Images, Labels, Pixels, SourceOptions
from training.sources.choices import read_choices
from training.sources.digests import file_digest, files_digest
from training.sources.images import ArrayImages, PackedImages
from training.sources.label_table import Columns, read_columns
from training.sources.labels import category, members, one_vs_rest, refusal
from training.sources.registry import SourceKind
from training.sources.splits import check_groups_whole, draw_split, split_keys, with_val

ATTRIBUTE_GROUP = "attribute"
_MISSING_VALUES = (255, -1)


def read_pack(argument: str, options: SourceOptions) -> Dataset:
    """The data set in the pack at path ``argument``; DataError says what is wrong with it."""
    path, chosen = read_choices("pack", argument, {"labels": ("",)})
    table = path.parent / chosen["labels"] if chosen["labels"] else None
    pack = Pack(path, read_archive(path))
    images = pack.images()
    beside = Columns() if table is None else read_columns(table, len(images), options.tasks)
    tasks, labels = pack.tasks(len(images), beside)
    split, notes = pack.split(images, options.split_seed)
    return Dataset(
        source=f"pack:{argument}",
        digest=file_digest(path) if table is None else files_digest([path, table]),
        tasks=tasks,
        labels=labels,
        split=split,
        images=images,
        notes=(*notes, *beside.notes),
    )


@dataclass(frozen=True)
class Pack:
    """The arrays of one image pack, checked as they are asked for."""

    path: Path
    arrays: Mapping[str, Array]

    def images(self) -> Images:
        """All images, in the order train, val, test where each split has an array of its own."""
        if "jpeg" in self.arrays:
            return self._packed()
        parts = ["images"] if "images" in self.arrays else self._parts("x")
        if not parts:
            raise self._error(
                "no images: expected `jpeg` with `offsets`, `images`, or `x_train`, `x_test`; "
                f"it has {', '.join(sorted(self.arrays)) or 'nothing'}"
            )
        pixels = [self._pixels(name) for name in parts]
        if len({array.shape[1:] for array in pixels}) > 1:
            raise self._error(f"images of different sizes: {[array.shape[1:] for array in pixels]}")
        return ArrayImages(pixels[0] if len(pixels) == 1 else np.concatenate(pixels))

    def tasks(self, count: int, beside: Columns) -> tuple[TaskSet, Labels]:
        """All tasks and their labels [count, T], those of a table ``beside`` last."""
        tasks: list[Task] = []
        columns: list[Labels] = []
        if "attr" in self.arrays:
            tasks, labels = self._attributes(count)
            columns.extend(labels.T)
        y = self.class_index(count)
        if y is not None:
            classes = self.class_names(y)
            try:
                tasks.append(category(classes))
                columns.append(y)
                if "attr" not in self.arrays:
                    tasks += one_vs_rest(classes)
                    columns += [members(y, (index,)) for index in range(len(classes))]
            except ValidationError as error:
                raise self._error(f"`class_names`: {refusal(error)}") from error
        tasks += beside.tasks
        columns += beside.labels
        if not tasks:
            raise self._error(
                "no tasks left: expected `attr` with `attr_names`, or `y` with `class_names`"
            )
        try:
            return TaskSet(tasks), np.stack(columns, axis=1)
        except ConfigError as error:
            raise self._error(str(error)) from error

    def split(self, images: Images, seed: int) -> tuple[NDArray[np.str_], tuple[str, ...]]:
        """The pack's split, completed or drawn where it has none, and a note on what was drawn."""
        keys = self._split_keys(images)
        parts = self._parts("x")
        if "split" in self.arrays:
            given = self.arrays["split"]
            if given.ndim != 1 or given.dtype.kind not in "US":
                raise self._error(
                    f"`split` has shape {given.shape} and type {given.dtype}; expected a word for "
                    "each image"
                )
            split = given.astype(np.str_)
        elif parts and "jpeg" not in self.arrays and "images" not in self.arrays:
            names = [part.removeprefix("x_") for part in parts]
            split = np.repeat(np.array(names), [len(self.arrays[part]) for part in parts])
        else:
            note = f"no split: train, val, test drawn 80/10/10 (seed {seed})"
            return draw_split(keys, seed, str(self.path)), (note,)
        if len(split) != len(keys):
            raise self._error(f"`split` has {len(split)} entries for {len(keys)} images")
        unknown = sorted(set(split.tolist()) - set(SPLITS))
        if unknown:
            raise self._error(f"`split` holds {unknown[:5]}; expected {', '.join(SPLITS)}")
        if "split_group" in self.arrays:
            check_groups_whole(
                split.tolist(), keys, lambda index: f"{self.path}, image {images.name(index)}"
            )
        return with_val(split, keys, seed, str(self.path))

    def class_index(self, count: int) -> Labels | None:
        """``y`` as class indices [count] with MISSING, or None where the pack has no ``y``."""
        parts = ["y"] if "y" in self.arrays else self._parts("y")
        if not parts:
            return None
        arrays = [self.arrays[name] for name in parts]
        raw = arrays[0] if len(arrays) == 1 else np.concatenate([one.ravel() for one in arrays])
        if raw.shape != (count,) or raw.dtype.kind not in "iu":
            raise self._error(
                f"`y` has shape {raw.shape} and type {raw.dtype}; expected {count} integers"
            )
        if raw.size and raw.max() > np.iinfo(np.int16).max:
            raise self._error(f"`y` holds class {raw.max()}; {np.iinfo(np.int16).max} is the most")
        return raw.astype(np.int16)

    def class_names(self, y: Labels) -> tuple[str, ...]:
        """Names of the classes of ``y``; DataError where ``y`` holds another class."""
        if "class_names" not in self.arrays:
            raise self._error("`y` without `class_names`")
        names = tuple(map(str, self.arrays["class_names"].tolist()))
        outside = np.flatnonzero((y < MISSING) | (y >= len(names)))
        if outside.size:
            raise self._error(
                f"`y` of image {outside[0]} is {y[outside[0]]}, outside its classes: "
                f"`class_names` has {len(names)} (0 to {len(names) - 1})"
            )
        return names

    def _attributes(self, count: int) -> tuple[list[Task], Labels]:
        if "attr_names" not in self.arrays:
            raise self._error("`attr` without `attr_names`")
        names = [str(name) for name in self.arrays["attr_names"].tolist()]
        raw = self.arrays["attr"]
        if raw.shape != (count, len(names)) or raw.dtype.kind not in "iub":
            raise self._error(
                f"`attr` has shape {raw.shape} and type {raw.dtype}; expected integers of shape "
                f"({count}, {len(names)}): images x attr_names"
            )
        values = raw.astype(np.int64)
        values[np.isin(values, _MISSING_VALUES)] = MISSING
        outside = np.argwhere((values != MISSING) & (values != 0) & (values != 1))
        if outside.size:
            row, column = outside[0]
            raise self._error(
                f"`attr` of image {row} is {values[row, column]} for {names[column]!r}; expected "
                "0, 1, or 255 or -1 for missing"
            )
        try:
            tasks = [Task(name=name, group=_group(name)) for name in names]
        except ValidationError as error:
            raise self._error(f"`attr_names`: {refusal(error)}") from error
        return tasks, values.astype(np.int16)

    def _packed(self) -> PackedImages:
        jpeg, offsets = self.arrays["jpeg"], self.arrays.get("offsets")
        if (
            offsets is None
            or offsets.ndim != 1
            or offsets.dtype.kind not in "iu"
            or not offsets.size
        ):
            raise self._error("`jpeg` needs `offsets`: N + 1 integers")
        ends = offsets.astype(np.int64)
        if (
            jpeg.dtype != np.uint8
            or ends[0] < 0
            or ends[-1] > jpeg.size
            or (np.diff(ends) < 0).any()
        ):
            raise self._error(
                f"`offsets` run from {ends[0]} to {ends[-1]} and must rise within the "
                f"{jpeg.size} bytes of `jpeg`"
            )
        names = self.arrays["names"].tolist() if "names" in self.arrays else None
        if names is not None and len(names) != len(ends) - 1:
            raise self._error(f"`names` has {len(names)} entries for {len(ends) - 1} images")
        return PackedImages(jpeg.astype(np.uint8, copy=False), ends, names)

    def _pixels(self, name: str) -> Pixels:
        array = self.arrays[name]
        if array.dtype != np.uint8 or not (
            array.ndim == 3 or (array.ndim == 4 and array.shape[3] == 3)
        ):
            raise self._error(
                f"`{name}` has shape {array.shape} and type {array.dtype}; expected uint8 of shape "
                "(N, h, w) or (N, h, w, 3)"
            )
        return array.astype(np.uint8, copy=False)

    def _split_keys(self, images: Images) -> list[str]:
        names = [images.name(index) for index in range(len(images))]
        if "split_group" not in self.arrays:
            return names
        groups = self.arrays["split_group"]
        if groups.shape != (len(names),):
            raise self._error(
                f"`split_group` has shape {groups.shape}; expected one entry for each of "
                f"{len(names)} images"
            )
        return split_keys(names, list(map(str, groups.tolist())))

    def _parts(self, prefix: str) -> list[str]:
        return [f"{prefix}_{split}" for split in SPLITS if f"{prefix}_{split}" in self.arrays]

    def _error(self, problem: str) -> DataError:
        return DataError(f"{self.path}: {problem}", path=str(self.path))


def _group(name: str) -> str:
    group, separator, _ = name.partition("::")
    return group if separator and group else ATTRIBUTE_GROUP


KIND = SourceKind("pack", "FILE.npz", "an image pack", read_pack)
