"""The small decathlon: its data, its command lines and its page."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from PIL import Image

from benchmarks import decathlon
from benchmarks.decathlon import DOMAINS, ENTRIES, KEEPS, command, write
from benchmarks.mini_decathlon import HAIR, Counts, write_mini_decathlon
from benchmarks.packs import DATA
from training.cli import app
from training.sources import Dataset, open_source

COUNTS = Counts(train=6, val=2, test=3)


def jpegs(count: int) -> dict[str, NDArray[Any]]:
    out = io.BytesIO()
    Image.new("RGB", (40, 32), (90, 10, 10)).save(out, "JPEG")
    data = np.frombuffer(out.getvalue(), np.uint8)
    return {"jpeg": np.tile(data, count), "offsets": np.arange(count + 1) * len(data)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The five domains of packs that are small but laid out as the real ones."""
    pytest.importorskip("sklearn", reason="scikit-learn, of the extra `bench`, has the digits")
    packs = tmp_path_factory.mktemp("packs")
    split = np.array((["train"] * 8 + ["val"] * 3 + ["test"] * 4) * 2)

    def save(name: str, **arrays: NDArray[Any]) -> None:
        (packs / name).parent.mkdir()
        np.savez(packs / name, **arrays)  # type: ignore[arg-type]

    y = np.arange(30)
    save("cub100/cub100.npz", **jpegs(30), y=y, split=split,
         class_names=np.array([f"bird {one}" for one in range(100)]))  # fmt: skip
    hair = np.zeros((30, 5), np.uint8)
    hair[y, y % 5] = 1  # every fifth has another attribute, and no colour of hair
    hair[0, :2] = 1
    save("celeba10k/celeba10k.npz", **jpegs(30), attr=hair, split=split,
         attr_names=np.array([*HAIR, "Young"]))  # fmt: skip
    save("cifar10/cifar10_jpeg.npz", **jpegs(30), y=y % 10,
         split=np.array(["train"] * 20 + ["test"] * 10),
         class_names=np.array([f"thing {one}" for one in range(10)]))  # fmt: skip
    grey = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    save("fashion_mnist/fashion_mnist.npz", x_train=grey, y_train=y[:20] % 10, x_test=grey[:9],
         y_test=y[:9], class_names=np.array([f"garment {one}" for one in range(10)]))  # fmt: skip
    root = tmp_path_factory.mktemp("data") / "decathlon-1.0"
    write_mini_decathlon(packs, root, COUNTS)
    return root


@pytest.fixture(scope="module")
def dataset(root: Path) -> Dataset:
    return open_source(f"decathlon:{root}")


def test_it_is_read_as_the_visual_decathlon(dataset: Dataset) -> None:
    assert dataset.tasks.names == DOMAINS
    assert [len(task.classes) for task in dataset.tasks] == [20, 10, 4, 10, 10]
    assert dataset.counts() == {"train": 30, "val": 10, "test": 15}
    assert ((dataset.labels >= 0).sum(axis=1) == 1).all()


def test_an_image_keeps_its_label(dataset: Dataset) -> None:
    digits = dataset.tasks.position("digits")
    first = int(np.flatnonzero(dataset.labels[:, digits] >= 0)[0])
    encoded = dataset.images.read(first)
    assert isinstance(encoded, bytes)
    pixels = np.asarray(Image.open(io.BytesIO(encoded)))
    from sklearn.datasets import load_digits

    data, labels = load_digits(return_X_y=True)
    assert dataset.labels[first, digits] == labels[0]
    assert np.array_equal(pixels, (data[0].reshape(8, 8) * 255 / 16).astype(np.uint8))
    faces = dataset.tasks.position("faces")
    ours = dataset.labels[dataset.labels[:, faces] >= 0, faces]
    assert ours[:6].tolist() == [1, 2, 3, 0, 1, 2]  # without the first, of two colours


def test_what_is_there_is_not_written_again(root: Path, tmp_path: Path) -> None:
    write_mini_decathlon(tmp_path / "no packs", root, COUNTS)
    with pytest.raises(FileNotFoundError):
        write_mini_decathlon(tmp_path / "no packs", root, Counts(7, 2, 3))


@pytest.mark.parametrize("key", ENTRIES)
def test_every_entry_is_a_training_that_can_be_asked_for(
    key: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def begin(request: object, *_: object) -> None:
        asked.update(vars(request))
        raise _StopError

    monkeypatch.setattr("training.run.train", begin)
    domains = ["digits"] if ENTRIES[key].alone else list(DOMAINS)
    words = command(ENTRIES[key], domains, 3, 50, root, Path("out"), "name")
    with pytest.raises(_StopError):
        app(words, standalone_mode=False)
    settings = asked["settings"]
    assert settings.batch_size == decathlon.PER_STEP * len(domains)
    per_epoch = max(1, 6 * len(domains) // settings.batch_size)
    assert round(settings.epochs * per_epoch) == 50
    assert settings.seed == 3


class _StopError(Exception):
    """Raised where training would begin."""


def test_cells_of_other_steps_are_not_taken_for_these(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decathlon, "write_mini_decathlon", lambda *_: None)
    monkeypatch.setenv(DATA, str(root))
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells/single-seed0.json").write_text('{"steps": 20}')
    with pytest.raises(typer.BadParameter, match="of 20 steps, and --steps is 30"):
        decathlon.main(steps=30, seeds=1, build=tmp_path, out=tmp_path)


def test_the_page_has_a_row_for_every_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cells").mkdir()
    for key in ENTRIES:
        error = 0.25 if key == "single" else 0.1
        cell = {
            "errors": dict.fromkeys(DOMAINS, error), "macs": dict.fromkeys(DOMAINS, 3e6),
            "parameters": 250_000, "cpu_s": 60.0,
        }  # fmt: skip
        (tmp_path / f"cells/{key}-seed0.json").write_text(json.dumps(cell))
    write(tmp_path, steps=500)
    page = (tmp_path / "README.md").read_text()
    assert "| a network per domain (the baseline) | 1250 |" in page
    assert all(f"keep {keep:g} | 3200 | 0.900 |" in page for keep in KEEPS)
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == 500
