"""``fashion-mnist:ROOT``: all 70,000 images of Fashion-MNIST, in its four files as downloaded.

ROOT holds ``train-images-idx3-ubyte.gz``, ``train-labels-idx1-ubyte.gz`` and the same of ``t10k``,
also without ``.gz``. The tasks are those of ``builtin:fashion``; the paper's ten are
``group:class``. The official split has no val: it is drawn from train.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.sources.base import Dataset, Labels, Pixels, SourceOptions
from training.sources.digests import files_digest
from training.sources.fashion_tasks import fashion_tasks
from training.sources.folder import Folder
from training.sources.idx import read_idx
from training.sources.images import ArrayImages
from training.sources.registry import SourceKind
from training.sources.splits import with_val

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
SIDE = 28
_PREFIXES = {"train": "train", "test": "t10k"}


def read_fashion_mnist(argument: str, options: SourceOptions) -> Dataset:
    """The data set below ``argument``; DataError names the file that is missing or wrong."""
    root = Folder(f"fashion-mnist:{argument}", Path(argument))
    files = {
        (split, part): root.file(f"{prefix}-{part}-ubyte.gz", f"{prefix}-{part}-ubyte")
        for split, prefix in _PREFIXES.items()
        for part in ("images-idx3", "labels-idx1")
    }
    parts = {
        split: _read_part(root, files[split, "images-idx3"], files[split, "labels-idx1"])
        for split in _PREFIXES
    }
    images = ArrayImages(np.concatenate([pixels for pixels, _ in parts.values()]))
    tasks, labels = fashion_tasks(np.concatenate([y for _, y in parts.values()]), CLASS_NAMES)
    official = np.repeat(list(parts), [len(y) for _, y in parts.values()])
    keys = [images.name(index) for index in range(len(images))]
    split, notes = with_val(official, keys, options.split_seed, root.source)
    return Dataset(root.source, files_digest(files.values()), tasks, labels, split, images, notes)


def _read_part(root: Folder, images: Path, labels: Path) -> tuple[Pixels, Labels]:
    """Images [N, 28, 28] and class indices [N] of one split."""
    pixels, y = read_idx(images, 3), read_idx(labels, 1)
    if len(pixels) != len(y):
        raise root.error(
            f"{images.name} holds {len(pixels)} images, {labels.name} {len(y)} labels; they are "
            "not of one download"
        )
    if pixels.shape[1:] != (SIDE, SIDE):
        raise root.error(f"{images.name} holds images of {pixels.shape[1:]}; expected 28 x 28")
    if len(y) and y.max() >= len(CLASS_NAMES):
        raise root.error(f"{labels.name} holds class {y.max()}; expected 0 to 9")
    return pixels, y.astype(np.int16)


KIND = SourceKind("fashion-mnist", "ROOT", "Fashion-MNIST as downloaded", read_fashion_mnist)
