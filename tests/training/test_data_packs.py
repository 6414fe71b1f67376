"""The example packs, read in place: a few hundred images of each."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from model.config import PreprocessConfig
from model.repository import Repository
from tests.training.conftest import tiny
from training.decoding import Decoder
from training.pixel_cache import PixelCache
from training.run import TrainRequest, train
from training.sources import Dataset, open_source

pytestmark = pytest.mark.data

SPEC = PreprocessConfig(height=28, width=28)


def some(dataset: Dataset, count: int) -> Dataset:
    """The first ``count`` images."""
    images = dataset.images
    chosen = replace(dataset, split=np.where(np.arange(len(images)) < count, dataset.split, "none"))
    assert chosen.counts()["train"] > 0
    return chosen


@pytest.mark.parametrize(
    ("pack", "tasks"),
    [
        ("celeba10k/celeba10k.npz", 40),
        ("clothing/clothing.npz", 18),
        ("fashion_products/fashion_products.npz", 76),
        ("cub100/cub100.npz", 90),
        ("cifar10/cifar10_jpeg.npz", 11),
        ("fashion_mnist/fashion_mnist.npz", 11),
    ],
)
def test_every_pack_is_read_and_decodes(data_folder: Path, pack: str, tasks: int) -> None:
    dataset = open_source(f"pack:{data_folder / pack}")
    assert len(dataset.tasks) == tasks
    assert min(dataset.counts().values()) > 0
    decoded = Decoder(PixelCache(Path("/nowhere"))).decode(some(dataset, 200), "train", SPEC)
    assert decoded.unreadable == ()
    assert decoded.pixels.std() > 10
    assert len(np.unique(decoded.labels, axis=0)) > 1


def test_photos_named_in_a_csv_become_a_bundle(data_folder: Path, tmp_path: Path) -> None:
    """The clothing pack written out as files and a CSV, the way people have their own images."""
    dataset = open_source(f"pack:{data_folder / 'clothing/clothing.npz'}")
    with (data_folder / "clothing/labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:300]
    with (tmp_path / "photos.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "garment", "kids", "split"])
        for index, row in enumerate(rows):
            data = dataset.images.read(index)
            assert isinstance(data, bytes)
            (tmp_path / f"{index}.jpg").write_bytes(data)
            writer.writerow([f"{index}.jpg", row["label"], row["kids"], row["split"]])
    request = TrainRequest(
        f"csv:{tmp_path / 'photos.csv'}", tmp_path / "models", "clothing", tiny(epochs=0.5)
    )
    published = train(request, Console(file=io.StringIO()))
    tasks = Repository(tmp_path / "models").read("clothing").config.tasks
    assert [task.name for task in tasks] == ["garment", "kids"]
    assert len(tasks[0].classes) > 10
    assert published.evaluation.images > 10


def test_the_products_labels_are_seven_tasks_with_many_classes(data_folder: Path) -> None:
    pack = data_folder / "fashion_products/fashion_products.npz"
    dataset = open_source(f"pack:{pack},labels=labels.csv").with_tasks(["group:label"])
    classes = {task.name: len(task.classes) for task in dataset.tasks}
    assert classes.pop("year") > 10
    assert classes == {
        "gender": 5, "masterCategory": 7, "subCategory": 43, "articleType": 129, "baseColour": 46,
        "season": 4, "usage": 8,
    }  # fmt: skip
    assert dataset.counts() == {"train": 9500, "val": 1250, "test": 1250}
    # The attributes of the pack were made of the same labels.
    both = open_source(f"pack:{pack},labels=labels.csv").with_tasks(["gender::Women", "gender"])
    women = both.tasks[1].classes.index("Women")
    assert ((both.labels[:, 1] == women) == (both.labels[:, 0] == 1)).all()
