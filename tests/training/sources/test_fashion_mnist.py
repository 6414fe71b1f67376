"""Fashion-MNIST's four idx files, written as they are downloaded."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from training.errors import DataError
from training.sources import Dataset, SourceOptions, open_source
from training.sources.fashion_mnist import CLASS_NAMES

TRAIN, TEST = 60, 20


def idx(array: NDArray[np.uint8]) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def pixels(count: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def classes(count: int) -> NDArray[np.uint8]:
    return (np.arange(count) % 10).astype(np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for prefix, count in (("train", TRAIN), ("t10k", TEST)):
        images, labels = idx(pixels(count, count)), idx(classes(count))
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    return tmp_path


def read(root: Path, seed: int = 0) -> Dataset:
    return open_source(f"fashion-mnist:{root}", SourceOptions(seed))


def test_images_labels_and_the_official_split(root: Path) -> None:
    dataset = read(root)
    assert len(dataset.images) == TRAIN + TEST
    assert (dataset.images.read(3) == pixels(TRAIN, TRAIN)[3]).all()
    assert (dataset.images.read(TRAIN + 3) == pixels(TEST, TEST)[3]).all()
    counts = dataset.counts()
    assert dataset.split[TRAIN:].tolist() == ["test"] * TEST
    assert counts["train"] + counts["val"] == TRAIN
    assert counts["val"] > 0
    assert dataset.notes == (f"no val split: {counts['val']} of 60 training images drawn (seed 0)",)


def test_tasks_are_those_of_the_built_in_sample(root: Path) -> None:
    dataset = read(root)
    assert tuple(dataset.tasks) == tuple(open_source("builtin:fashion").tasks)
    assert dataset.tasks[dataset.tasks.position("category")].classes == CLASS_NAMES
    ten = dataset.with_tasks(["group:class"])
    assert ten.labels.tolist() == (np.eye(10)[np.arange(TRAIN + TEST) % 10]).tolist()


def test_files_may_be_uncompressed(root: Path) -> None:
    expected = read(root)
    for path in list(root.glob("*.gz")):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert (read(root).labels == expected.labels).all()


def test_the_digest_is_that_of_the_files(root: Path) -> None:
    before = read(root).digest
    assert read(root).digest == before
    changed = gzip.compress(idx(pixels(TEST, 99)))
    (root / "t10k-images-idx3-ubyte.gz").write_bytes(changed)
    assert read(root).digest != before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t10k-labels-idx1", None, "no file t10k-labels-idx1-ubyte.gz, nor t10k-labels-idx1-ubyte"),
        ("train-labels-idx1", idx(classes(59)), "holds 60 images, train-labels.* 59 labels"),
        ("train-images-idx3", idx(pixels(60, 1))[:-5], "60 x 28 x 28 bytes, 47035 follow"),
        ("train-images-idx3", idx(classes(60)), "not an idx file of 3-dimensional"),
        ("train-images-idx3", idx(pixels(60, 1)[:, 2:]), r"images of \(26, 28\); expected 28 x 28"),
        ("train-labels-idx1", idx(classes(60) + np.uint8(1)), "holds class 10; expected 0 to 9"),
        ("train-labels-idx1", b"", "not an idx file"),
    ],
)
def test_mistakes(root: Path, name: str, content: bytes | None, message: str) -> None:
    path = root / f"{name}-ubyte.gz"
    path.unlink()
    if content is not None:
        path.write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=message):
        read(root)


@pytest.mark.parametrize("content", [b"", b"no gzip at all", gzip.compress(bytes(999))[:-9]])
def test_broken_downloads_are_named(root: Path, content: bytes) -> None:
    (root / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz"):
        read(root)
