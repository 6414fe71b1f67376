"""Draw fashion.npz from the four official Fashion-MNIST files.

Usage, from the repository root:
    python training/builtin/sample.py FOLDER [--only-index FILE.npz] [--out FILE.npz]

FOLDER holds {train,t10k}-images-idx3-ubyte.gz and {train,t10k}-labels-idx1-ubyte.gz. The same
arguments give the same images and the same bytes. Needs numpy only.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SEED = 20190821
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SPLITS = (  # (name, official file, images per class); order fixes which images are drawn
    ("train", "train", 540),
    ("val", "train", 60),
    ("test", "t10k", 120),
)

Bytes = NDArray[np.uint8]
Positions = NDArray[np.int64]


def read_idx(path: Path) -> Bytes:
    """Read one gzip-compressed IDX file of unsigned bytes, of any rank."""
    with gzip.open(path) as file:
        data = file.read()
    if data[:3] != b"\x00\x00\x08":
        raise SystemExit(f"{path} is not an IDX file of unsigned bytes: starts with {data[:4]!r}")
    rank = data[3]
    shape = [int(n) for n in np.frombuffer(data, ">u4", count=rank, offset=4)]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def allowed_positions(only: Path | None, file: str, count: int) -> Positions:
    """Positions of one official file that may be drawn: all, or those the index file names."""
    if only is None:
        return np.arange(count, dtype=np.int64)
    with np.load(only) as index:
        return np.sort(index["train_index" if file == "train" else "test_index"].astype(np.int64))


def draw(labels: Bytes, allowed: Positions, per_class: int, rng: np.random.Generator) -> Positions:
    """Draw `per_class` positions of every class, in one random order over all classes."""
    chosen = []
    for label, name in enumerate(CLASSES):
        candidates = allowed[labels[allowed] == label]
        if len(candidates) < per_class:
            raise SystemExit(f"{name}: {per_class} images wanted, only {len(candidates)} allowed")
        chosen.append(rng.choice(candidates, per_class, replace=False))
    return rng.permutation(np.concatenate(chosen))


def sample(folder: Path, only: Path | None) -> dict[str, NDArray[np.generic]]:
    """Draw every split; returns the arrays of fashion.npz by name."""
    rng = np.random.default_rng(SEED)
    images, labels = {}, {}
    allowed: dict[str, Positions] = {}
    for file in ("train", "t10k"):
        images[file] = read_idx(folder / f"{file}-images-idx3-ubyte.gz")
        labels[file] = read_idx(folder / f"{file}-labels-idx1-ubyte.gz")
        allowed[file] = allowed_positions(only, file, len(labels[file]))
    parts: dict[str, list[NDArray[np.generic]]] = {"images": [], "y": [], "split": [], "index": []}
    for split, file, per_class in SPLITS:
        positions = draw(labels[file], allowed[file], per_class, rng)
        allowed[file] = np.setdiff1d(allowed[file], positions)  # no image in two splits
        parts["images"].append(images[file][positions])
        parts["y"].append(labels[file][positions])
        parts["split"].append(np.full(len(positions), split))
        parts["index"].append(positions.astype(np.int32))
    arrays = {name: np.concatenate(values) for name, values in parts.items()}
    return arrays | {"class_names": np.array(CLASSES)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw fashion.npz from the official files.")
    parser.add_argument("folder", type=Path, help="folder with the four official idx.gz files")
    parser.add_argument("--only-index", type=Path, help="npz with train_index and test_index")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("fashion.npz"))
    options = parser.parse_args()
    arrays = sample(options.folder, options.only_index)
    np.savez_compressed(options.out, allow_pickle=False, **arrays)
    print(f"{options.out}: {len(arrays['y'])} images, {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
