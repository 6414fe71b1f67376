"""The committed sample is what its README says, and its script draws it the same way twice."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

PER_CLASS = {"train": 540, "val": 60, "test": 120}
SCRIPT = "training/builtin/sample.py"


@pytest.fixture(scope="module")
def sample(root: Path) -> dict[str, NDArray[np.generic]]:
    with np.load(root / "training/builtin/fashion.npz") as archive:
        return dict(archive)


def test_every_split_has_every_class_equally_often(sample: dict[str, NDArray[np.generic]]) -> None:
    assert len(sample["class_names"]) == 10
    for split, per_class in PER_CLASS.items():
        counts = np.bincount(sample["y"][sample["split"] == split].astype(np.int64), minlength=10)
        assert counts.tolist() == [per_class] * 10
    assert len(sample["y"]) == 10 * sum(PER_CLASS.values())


def test_images_are_small_grey_and_not_blank(sample: dict[str, NDArray[np.generic]]) -> None:
    images = sample["images"]
    assert images.shape == (7200, 28, 28)
    assert images.dtype == np.uint8
    assert images.reshape(7200, -1).max(axis=1).min() > 0


@pytest.mark.parametrize("splits", [("train", "val"), ("test",)])
def test_no_official_position_is_used_twice(
    sample: dict[str, NDArray[np.generic]], splits: tuple[str, ...]
) -> None:
    positions = sample["index"][np.isin(sample["split"], splits)]
    assert len(np.unique(positions)) == len(positions)


def test_the_sample_is_at_most_4_mb_and_carries_its_licence(root: Path) -> None:
    folder = root / "training/builtin"
    assert (folder / "fashion.npz").stat().st_size <= 4_000_000
    assert "2017 Zalando SE" in (folder / "LICENSE").read_text()


def _official(folder: Path, file: str, count: int) -> None:
    rng = np.random.default_rng(len(file))
    shape = count.to_bytes(4, "big")
    images = rng.integers(1, 255, (count, 28, 28), dtype=np.uint8).tobytes()
    side = (28).to_bytes(4, "big")
    with gzip.open(folder / f"{file}-images-idx3-ubyte.gz", "wb") as out:
        out.write(b"\x00\x00\x08\x03" + shape + side + side + images)
    with gzip.open(folder / f"{file}-labels-idx1-ubyte.gz", "wb") as out:
        out.write(b"\x00\x00\x08\x01" + shape + bytes(i % 10 for i in range(count)))


def _draw(root: Path, folder: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, str(folder), "--out", str(out), *options]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def test_the_script_draws_only_allowed_positions_and_the_same_bytes_twice(
    root: Path, tmp_path: Path
) -> None:
    _official(tmp_path, "train", 6400)
    _official(tmp_path, "t10k", 1500)
    index = tmp_path / "index.npz"
    np.savez(index, train_index=np.arange(100, 6400), test_index=np.arange(20, 1500))
    outs = [tmp_path / "one.npz", tmp_path / "two.npz"]
    for out in outs:
        assert _draw(root, tmp_path, out, "--only-index", str(index)).returncode == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()
    with np.load(outs[0]) as drawn:
        test = drawn["split"] == "test"
        assert drawn["index"][test].min() >= 20
        assert drawn["index"][~test].min() >= 100
        assert (drawn["y"] == drawn["index"] % 10).all()


def test_the_script_says_which_class_has_too_few_images(root: Path, tmp_path: Path) -> None:
    _official(tmp_path, "train", 500)
    _official(tmp_path, "t10k", 500)
    done = _draw(root, tmp_path, tmp_path / "out.npz")
    assert done.returncode == 1
    assert done.stderr.strip() == "T-shirt/top: 540 images wanted, only 50 allowed"
