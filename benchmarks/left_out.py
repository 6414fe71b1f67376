"""Are images that are in no pack predicted as well as the pack's own test images?

    TASKROUTE_DATA=/data python -m benchmarks.left_out

The pack of Fashion-MNIST leaves 2,000 of the official test images out (200 per class). A network is
trained on the pack; then the pack's test images and those 2,000, from the official files, are
evaluated the same way.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.packs import packs
from benchmarks.report import RESULTS, Report
from training.sources.fashion_mnist import CLASS_NAMES
from training.sources.idx import read_idx

FIGURES = ("accuracy", "balanced_accuracy", "precision", "recall", "average_precision", "ece")
NAME = "fashion"
TRAIN = (
    "--tasks", "group:class", "--image-size", "28", "--width", "0.25", "--precision", "bfloat16",
    "--threads", "1",
)  # fmt: skip


def main(
    fashion_mnist: Annotated[Path, typer.Option(help="Fashion-MNIST's four files.")] = Path(
        "build/fashion-mnist"
    ),
    epochs: Annotated[float, typer.Option(help="Passes over the training images.")] = 2,
    build: Annotated[Path, typer.Option(help="For the network and the images.")] = Path(
        "build/left_out"
    ),
    out: Annotated[Path, typer.Option(help="Where results go.")] = RESULTS
    / "training"
    / "left_out",
) -> None:
    """Train on the pack, evaluate on its test images and on those left out of it."""
    pack = packs() / "fashion_mnist" / "fashion_mnist.npz"
    build.mkdir(parents=True, exist_ok=True)
    left_out = write_left_out(pack, fashion_mnist, build / "left_out.npz")
    _training("train", f"pack:{pack}", build, *TRAIN, f"--epochs={epochs:g}", "--restart")
    found = {
        "in the pack": _evaluated(f"pack:{pack}", build),
        "left out of it": _evaluated(f"pack:{left_out}", build),
    }
    report = Report(out, "Test images in a pack, and test images left out of it")
    report.text(
        f"Fashion-MNIST, ten binary tasks, {epochs:g} epochs on the pack's training images; means "
        "over tasks, with 95 % bootstrap intervals."
    )
    report.table(
        ["test images", "number", *FIGURES],
        [[name, one["images"], *(_cell(one, figure) for figure in FIGURES)]
         for name, one in found.items()],
    )  # fmt: skip
    report.write({"epochs": epochs, "settings": TRAIN, "figures": found})
    for name, one in found.items():
        print(name, {figure: round(one["macro"][figure], 4) for figure in FIGURES})


def write_left_out(pack: Path, official: Path, to: Path) -> Path:
    """A pack of the official test images that ``pack`` does not hold."""
    with np.load(pack) as arrays:
        there = arrays["test_index"]
    pixels = read_idx(official / "t10k-images-idx3-ubyte.gz", 3)
    labels = read_idx(official / "t10k-labels-idx1-ubyte.gz", 1)
    rest = np.setdiff1d(np.arange(len(labels)), there)
    np.savez(
        to,
        images=pixels[rest],
        y=labels[rest].astype(np.int16),
        class_names=np.array(CLASS_NAMES),
        split=np.full(len(rest), "test"),
    )
    return to


def _evaluated(source: str, build: Path) -> dict[str, Any]:
    file = build / "figures.json"
    _training("evaluate", source, build, "--split", "test", "--json", str(file))
    found: dict[str, Any] = json.loads(file.read_text())
    return {
        "images": found["images"],
        "macro": found["macro"],
        "intervals": found["intervals"]["macro"],
    }


def _training(command: str, source: str, build: Path, *arguments: str) -> None:
    place = ["--data", source, "--repository", str(build), "--name", NAME]
    subprocess.run([sys.executable, "-m", "training", command, *place, *arguments], check=True)


def _cell(one: dict[str, Any], figure: str) -> str:
    low, high = one["intervals"][figure]
    return f"{one['macro'][figure]:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    typer.run(main)
