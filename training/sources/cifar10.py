"""``cifar10:ROOT``: CIFAR-10's Python version, unpacked or still in its archive.

ROOT is ``cifar-10-batches-py``, a folder that holds it or ``cifar-10-python.tar.gz``, or that file
itself. The tasks are ``category`` and one for each class (``group:class``, the paper's ten). The
official split has no val: it is drawn from train.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.tasks import TaskSet
from training.sources.base import Dataset, Labels, Pixels, SourceOptions
from training.sources.folder import Folder
from training.sources.images import ArrayImages
from training.sources.labels import category, members, one_vs_rest
from training.sources.plain_pickle import load_plain_pickle
from training.sources.registry import SourceKind
from training.sources.splits import with_val

SIDE = 32
FOLDER, ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"
_META = "batches.meta"
_BATCHES = {
    **{f"data_batch_{number}": "train" for number in range(1, 6)},
    "test_batch": "test",
}


def read_cifar10(argument: str, options: SourceOptions) -> Dataset:
    """The data set at ``argument``; DataError names the batch that is missing or wrong."""
    root = Folder(f"cifar10:{argument}", Path(argument))
    files = _files(root)
    classes = _class_names(root, files[_META])
    parts = {name: _read_batch(root, name, files[name], len(classes)) for name in _BATCHES}
    images = ArrayImages(np.concatenate([pixels for pixels, _ in parts.values()]))
    y = np.concatenate([labels for _, labels in parts.values()])
    tasks = [category(classes), *one_vs_rest(classes)]
    columns = [y, *(members(y, (index,)) for index in range(len(classes)))]
    official: NDArray[np.str_] = np.repeat(
        list(_BATCHES.values()), [len(labels) for _, labels in parts.values()]
    )
    keys = [images.name(index) for index in range(len(images))]
    split, notes = with_val(official, keys, options.split_seed, root.source)
    digest = hashlib.sha256(b"".join(files.values())).hexdigest()
    return Dataset(
        root.source,
        f"sha256:{digest}",
        TaskSet(tasks),
        np.stack(columns, axis=1),
        split,
        images,
        notes,
    )


def _files(root: Folder) -> dict[str, bytes]:
    """The bytes of every batch, from the folder or the archive."""
    names = (_META, *_BATCHES)
    if root.path.is_file():
        return _unpacked(root, root.path, names)
    inner = root.below(FOLDER)
    if not (inner.path / _META).is_file() and (root.path / ARCHIVE).is_file():
        return _unpacked(root, root.path / ARCHIVE, names)
    return {name: inner.file(name).read_bytes() for name in names}


def _unpacked(root: Folder, archive: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    try:
        # Read as a stream, and nothing is written: a path in the archive can do no harm.
        with tarfile.open(archive, "r|*") as tar:
            for member in tar:
                name = member.name.removeprefix(f"{FOLDER}/")
                content = tar.extractfile(member) if name in names else None
                if content is not None:
                    found[name] = content.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise root.error(f"{archive} cannot be read: {error}; download it again") from error
    missing = [name for name in names if name not in found]
    if missing:
        raise root.error(
            f"{archive} holds no {FOLDER}/{missing[0]}; expected is the Python version"
        )
    return found


def _class_names(root: Folder, data: bytes) -> tuple[str, ...]:
    names = _read_pickle(root, _META, data).get(b"label_names")
    if not isinstance(names, list) or not all(isinstance(name, bytes) for name in names):
        raise root.error(f"{_META} has no list `label_names`")
    return tuple(name.decode() for name in names)


def _read_batch(root: Folder, name: str, data: bytes, classes: int) -> tuple[Pixels, Labels]:
    """Images [N, 32, 32, 3] and class indices [N]."""
    batch = _read_pickle(root, name, data)
    rows, y = batch.get(b"data"), batch.get(b"labels")
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.ndim != 2:
        raise root.error(f"{name} has no array `data` of unsigned bytes")
    if rows.shape[1] != 3 * SIDE * SIDE:
        raise root.error(
            f"{name}: rows of {rows.shape[1]} bytes; expected {3 * SIDE * SIDE} (3 x 32 x 32)"
        )
    if not isinstance(y, list) or len(y) != len(rows):
        count = len(y) if isinstance(y, list) else "no"
        raise root.error(f"{name} holds {len(rows)} images and {count} labels")
    outside = [label for label in y if not isinstance(label, int) or not 0 <= label < classes]
    if outside:
        raise root.error(f"{name} has label {outside[0]!r}; {_META} names {classes} classes")
    pixels = rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pixels), np.array(y, dtype=np.int16)


def _read_pickle(root: Folder, name: str, data: bytes) -> Mapping[bytes, Any]:
    try:
        value = load_plain_pickle(io.BytesIO(data))
    except ValueError as error:
        raise root.error(f"{name} is no batch of CIFAR-10: {error}") from error
    if not isinstance(value, dict):
        raise root.error(f"{name} is no batch of CIFAR-10: it holds a {type(value).__name__}")
    return value


KIND = SourceKind("cifar10", "ROOT", "CIFAR-10's Python version as downloaded", read_cifar10)
