"""Methods of training compared at equal processor time: the tables of docs/training-results.md.

    TASKROUTE_DATA=/data python -m benchmarks.training                all of them
    TASKROUTE_DATA=/data python -m benchmarks.training celeba-40      some of them

Each is a ``python -m training compare`` into ``benchmarks/results/training/NAME``; finished runs
are kept there, so the same command goes on with what was cut short. The folder named by
``TASKROUTE_DATA`` holds the packs, one folder each; ``--fashion-mnist`` is that of its four files.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.report import RESULTS

DATA = "TASKROUTE_DATA"
SMALL = ("--width", "0.25", "--precision", "bfloat16", "--threads", "1")
"""A quarter of VGG-11's units: what one thread trains in minutes."""


@dataclass(frozen=True)
class Stage:
    """Methods at some keeps."""

    methods: str
    keeps: str


# In the order of what they teach, so that a comparison cut short has the main rows.
STAGES = (
    Stage("shared,evidence", "0.5"),
    Stage("shared,evidence,evidence-all,paper,random-late", "0.5"),
    Stage("shared,evidence,evidence-all,paper,random-late", "0.2,0.4,0.5,0.8"),
)


@dataclass(frozen=True)
class Comparison:
    """One set of tasks on one pack."""

    name: str
    pack: str
    """Below the packs' folder; empty for Fashion-MNIST as downloaded."""
    budget_s: int
    """Processor seconds of training steps."""
    image_size: str
    flags: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = STAGES
    seeds: int = 1


COMPARISONS = {
    one.name: one
    for one in (
        Comparison(
            "fashion-mnist-10",
            "",
            150,
            "28",
            # What the paper reports is accuracy, at a threshold that it does not state.
            flags=("--tasks", "group:class", "--threshold-objective", "accuracy"),
            stages=(Stage("evidence", "0.5"), Stage("shared,evidence,paper", "0.5")),
            seeds=3,
        ),
        Comparison("celeba-40", "celeba10k/celeba10k.npz", 90, "44x36"),
        Comparison("cifar10-10", "cifar10/cifar10_jpeg.npz", 90, "32"),
        Comparison("products-76", "fashion_products/fashion_products.npz", 90, "40x30"),
        Comparison("cub-89", "cub100/cub100.npz", 90, "48"),
    )
}


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Of: {', '.join(COMPARISONS)}.")] = (
        None
    ),
    stages: Annotated[int, typer.Option(help="Only the first so many stages of each.")] = 9,
    fashion_mnist: Annotated[Path, typer.Option(help="Fashion-MNIST's four files.")] = Path(
        "/usr/share/datasets/fashion-mnist"
    ),
    out: Annotated[Path, typer.Option(help="Where results go.")] = RESULTS / "training",
) -> None:
    """Compare methods of training; goes on with what an earlier call left unfinished."""
    unknown = [name for name in names or () if name not in COMPARISONS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(COMPARISONS)}")
    if DATA not in os.environ:
        raise typer.BadParameter(f"{DATA} does not say where the packs are")
    for name in names or COMPARISONS:
        for stage in COMPARISONS[name].stages[:stages]:
            code = subprocess.run(command(COMPARISONS[name], stage, fashion_mnist, out)).returncode
            if code:
                raise typer.Exit(code)


def command(comparison: Comparison, stage: Stage, fashion_mnist: Path, out: Path) -> Sequence[str]:
    """The comparison's command line."""
    source = f"fashion-mnist:{fashion_mnist}"
    if comparison.pack:
        source = f"pack:{Path(os.environ[DATA]) / comparison.pack}"
    return [
        sys.executable, "-m", "training", "compare",
        "--data", source, "--out", str(out / comparison.name),
        "--methods", stage.methods, "--keeps", stage.keeps,
        "--seeds", str(comparison.seeds), "--budget-s", str(comparison.budget_s),
        "--image-size", comparison.image_size, *SMALL, *comparison.flags,
    ]  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
