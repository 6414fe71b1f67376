"""Tiny data sets on which training takes a second."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from model.network import RoutedNetwork, build
from model.tasks import Task
from training.config import TrainSettings
from training.decoding import ImageSet
from training.evidence import start_config
from training.settings_files import load_settings

SIDE = 28
TINY = {
    "arch": "vgg11_bn",
    "width": 0.125,
    "unit_multiple": 2,
    "embedding": 4,
    "image_size": SIDE,
    "batch_size": 8,
    "epochs": 2,
    "lr": 0.05,
    "recalibration_batches": 2,
}

CsvMaker = Callable[..., Path]
PackMaker = Callable[..., Path]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Convolutions this small only lose by threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def settings() -> TrainSettings:
    return load_settings(TrainSettings, None, TINY)


def tiny(**changes: Any) -> TrainSettings:
    """The tiny settings with some changed."""
    return load_settings(TrainSettings, None, TINY | changes)


TASKS = (
    Task(name="bright"),
    Task(name="shade", classes=("dark", "medium", "light")),
    Task(name="left"),
)


def tiny_network(settings: TrainSettings, tasks: tuple[Task, ...] = TASKS) -> RoutedNetwork:
    config = settings.network(tasks, settings.preprocess())
    return build(start_config(settings, config), settings.seed)


def tiny_images(count: int = 24, seed: int = 0) -> ImageSet:
    """Grey squares: bright or dark, lighter on the left or on the right; labels for TASKS."""
    generator = np.random.default_rng(seed)
    level = generator.integers(0, 3, count)
    left = generator.integers(0, 2, count)
    noise = generator.integers(0, 30, (count, SIDE, SIDE, 3))
    pixels = noise + 70 * level[:, None, None, None]
    pixels[left == 1, :, : SIDE // 2] += 60
    labels = np.stack([level > 0, level, left], axis=1).astype(np.int16)
    return ImageSet(pixels.astype(np.uint8), labels)


@pytest.fixture
def make_csv(tmp_path: Path) -> CsvMaker:
    """Write a CSV and, for every row, the PNG it names unless it is in ``without``."""

    def make(
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        without: Sequence[str] = (),
        name: str = "photos.csv",
    ) -> Path:
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
        for index, row in enumerate(rows):
            image = tmp_path / (row[0] or "unnamed.png")
            if row[0] not in without and not image.exists():
                Image.new("RGB", (30, 40), (index % 256, 80, 120)).save(image)
        return path

    return make


@pytest.fixture
def make_pack(tmp_path: Path) -> PackMaker:
    """Write a pack of 40 raw images and three attributes; arrays given as None are left out."""

    def make(name: str = "pack.npz", **changes: NDArray[Any] | None) -> Path:
        images = tiny_images(40)
        arrays: dict[str, NDArray[Any] | None] = {
            "images": images.pixels,
            "attr": (images.labels > 0).astype(np.uint8),
            "attr_names": np.array(["bright", "shade::light", "left"]),
            "split": np.array(["train"] * 24 + ["val"] * 8 + ["test"] * 8),
        }
        kept: Mapping[str, NDArray[Any]] = {
            key: value for key, value in (arrays | changes).items() if value is not None
        }
        path = tmp_path / name
        np.savez(path, **kept)  # type: ignore[arg-type]
        return path

    return make
