"""Five small domains in the Visual Decathlon's own layout, made of the packs and of scikit-learn's
digits: what ``decathlon:ROOT`` reads.

Digits, garments, birds (species), faces (colour of hair) and objects: one multi-class task each.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SPLITS = ("train", "val", "test")
HAIR = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")
SPECIES = 20
_IDS_PER_DOMAIN = 10_000_000  # as the devkit numbers images and categories

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """The most images of one domain in each split."""

    train: int = 2000
    val: int = 250
    test: int = 1000

    def of(self, split: str) -> int:
        count: int = getattr(self, split)
        return count


@dataclass(frozen=True, eq=False)
class Domain:
    """Encoded images with one label each."""

    name: str
    classes: Sequence[str]
    files: Sequence[bytes]
    labels: Integers
    split: NDArray[np.str_]


def write_mini_decathlon(packs: Path, root: Path, counts: Counts) -> None:
    """All domains below ``root``, unless they are there.

    Args:
        packs: the folder of the packs.
        counts: images beyond these are left out.
    """
    done = root / "annotations" / "counts.json"
    if done.is_file() and json.loads(done.read_text()) == vars(counts):
        return
    for number, domain in enumerate(_domains(packs, counts), 1):
        _write(root, domain, counts, number * _IDS_PER_DOMAIN)
    done.write_text(json.dumps(vars(counts)))


def _domains(packs: Path, counts: Counts) -> Iterator[Domain]:
    yield _digits()
    yield _garments(packs / "fashion_mnist" / "fashion_mnist.npz", counts)
    yield _birds(packs / "cub100" / "cub100.npz")
    yield _faces(packs / "celeba10k" / "celeba10k.npz")
    yield _objects(packs / "cifar10" / "cifar10_jpeg.npz", counts)


def _digits() -> Domain:
    from sklearn.datasets import load_digits

    data, labels = load_digits(return_X_y=True)
    pixels = (data.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    split = np.repeat(SPLITS, [1200, 197, 400])
    return Domain("digits", [f"{digit}" for digit in range(10)], _png(pixels), labels, split)


def _garments(path: Path, counts: Counts) -> Domain:
    with np.load(path) as pack:
        train, test = counts.train + counts.val, counts.test
        pixels = np.concatenate([pack["x_train"][:train], pack["x_test"][:test]])
        labels = np.concatenate([pack["y_train"][:train], pack["y_test"][:test]])
        names = pack["class_names"].tolist()
    sizes = [counts.train, counts.val, len(pixels) - train]
    return Domain("garments", names, _png(pixels), labels, np.repeat(SPLITS, sizes))


def _birds(path: Path) -> Domain:
    with np.load(path) as pack:
        chosen = np.flatnonzero(pack["y"] < SPECIES)
        return Domain(
            "birds", pack["class_names"][:SPECIES].tolist(), _jpeg(pack, chosen),
            pack["y"][chosen], pack["split"][chosen],
        )  # fmt: skip


def _faces(path: Path) -> Domain:
    """Faces with exactly one colour of hair."""
    with np.load(path) as pack:
        names = pack["attr_names"].tolist()
        hair = pack["attr"][:, [names.index(name) for name in HAIR]]
        chosen = np.flatnonzero(hair.sum(axis=1) == 1)
        return Domain(
            "faces", HAIR, _jpeg(pack, chosen), hair[chosen].argmax(axis=1), pack["split"][chosen]
        )


def _objects(path: Path, counts: Counts) -> Domain:
    """The first of its training images are for validation: the pack has none for that."""
    with np.load(path) as pack:
        train, test = (np.flatnonzero(pack["split"] == split) for split in ("train", "test"))
        chosen = np.concatenate([train[: counts.val + counts.train], test[: counts.test]])
        split = pack["split"][chosen].astype("<U5")
        split[: counts.val] = "val"
        return Domain(
            "objects", pack["class_names"].tolist(), _jpeg(pack, chosen), pack["y"][chosen], split
        )


def _png(pixels: NDArray[np.uint8]) -> list[bytes]:
    files = []
    for image in pixels:
        out = io.BytesIO()
        Image.fromarray(image).save(out, "PNG")
        files.append(out.getvalue())
    return files


def _jpeg(pack: Mapping[str, NDArray[Any]], chosen: Integers) -> list[bytes]:
    data, offsets = pack["jpeg"], pack["offsets"]
    return [data[offsets[one] : offsets[one + 1]].tobytes() for one in chosen]


def _write(root: Path, domain: Domain, counts: Counts, first_id: int) -> None:
    categories = [
        {"id": first_id + 1 + label, "name": name} for label, name in enumerate(domain.classes)
    ]
    for split in SPLITS:
        images, annotations = [], []
        for place in np.flatnonzero(domain.split == split)[: counts.of(split)].tolist():
            name = f"data/{domain.name}/{split}/{place:06d}.img"
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(domain.files[place])
            image, label = first_id + 1 + place, int(domain.labels[place])
            images.append({"id": image, "file_name": name})
            annotations.append({"image_id": image, "category_id": categories[label]["id"]})
        path = root / "annotations" / f"{domain.name}_{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps({"images": images, "annotations": annotations, "categories": categories})
        )
