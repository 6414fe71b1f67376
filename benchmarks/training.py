"""Methods of training compared at equal processor time: the tables of docs/training-results.md.

    TASKROUTE_DATA=/data python -m benchmarks.training                all of them
    TASKROUTE_DATA=/data python -m benchmarks.training celeba-40      some of them

Each is a ``python -m training compare`` into ``benchmarks/results/training/NAME``; finished runs
are kept there, so the same command goes on with what was cut short. The folder named by
``TASKROUTE_DATA`` holds the packs, one folder each; ``--fashion-mnist`` is that of its four files.
What no pack holds as it is wanted is written from one below ``--build`` first.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.derived_data import product_columns, species_attributes
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
MAIN = Stage("shared,evidence", "0.5")
STAGES = (
    MAIN,
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
    derive: Callable[[Path, Path], str] | None = None
    """Writes what is trained on from the pack into a folder, and says its SOURCE."""
    beside: tuple[str, str] | None = None
    """A comparison, and methods of it whose runs with seed 0 are this one's too."""


CELEBA = Comparison("celeba-40", "celeba10k/celeba10k.npz", 90, "44x36")
CIFAR10 = Comparison(
    # Its eleventh task, the ten classes at once, is left out.
    "cifar10-10", "cifar10/cifar10_jpeg.npz", 90, "32", flags=("--tasks", "group:class"),
)  # fmt: skip
PRODUCTS = Comparison("products-76", "fashion_products/fashion_products.npz", 90, "40x30")
# 89 attributes, and the 100 species as one task more.
CUB = Comparison("cub-89", "cub100/cub100.npz", 90, "48")
PACKS = (CIFAR10, CELEBA, PRODUCTS, CUB)

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
        *PACKS,
        # All layers from evidence, with less of the budget for choosing routes and for statistics.
        replace(
            CELEBA,
            name="celeba-40-all-layers",
            flags=(
                "--shared-start", "0.6", "--saliency-images", "256", "--recalibration-batches", "4",
            ),
            stages=(Stage("shared,evidence-all", "0.5"),),
            beside=(CELEBA.name, "shared"),
        ),
        *(
            replace(
                one,
                name=f"{one.name}-3-seeds",
                stages=(MAIN,),
                seeds=3,
                beside=(one.name, MAIN.methods),
            )
            for one in PACKS
        ),
        replace(CELEBA, name="celeba-10", flags=("--task-counts", "10"), stages=(MAIN,)),
        replace(CUB, name="cub-10", flags=("--task-counts", "10"), stages=(MAIN,)),
        replace(CUB, name="cub-50", flags=("--task-counts", "50"), stages=(MAIN,)),
        replace(CUB, name="cub-312", stages=(MAIN,), derive=species_attributes),
        replace(PRODUCTS, name="products-7", stages=(MAIN,), derive=product_columns),
    )
}  # fmt: skip


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Of: {', '.join(COMPARISONS)}.")] = (
        None
    ),
    stages: Annotated[int, typer.Option(help="Only the first so many stages of each.")] = 9,
    fashion_mnist: Annotated[Path, typer.Option(help="Fashion-MNIST's four files.")] = Path(
        "build/fashion-mnist"
    ),
    build: Annotated[Path, typer.Option(help="For data written from packs.")] = Path(
        "build/training"
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
        one = COMPARISONS[name]
        source = source_of(one, fashion_mnist, build)
        take_over(one, out)
        for stage in one.stages[:stages]:
            code = subprocess.run(command(one, stage, source, out)).returncode
            if code:
                raise typer.Exit(code)


def source_of(comparison: Comparison, fashion_mnist: Path, build: Path) -> str:
    """SOURCE of the comparison's data, which are written where no pack has them so."""
    if not comparison.pack:
        return f"fashion-mnist:{fashion_mnist}"
    pack = Path(os.environ[DATA]) / comparison.pack
    if comparison.derive is None:
        return f"pack:{pack}"
    return comparison.derive(pack, build / comparison.name)


def take_over(comparison: Comparison, out: Path) -> None:
    """Copy the finished runs of the comparison beside that are this one's too."""
    if comparison.beside is None:
        return
    name, methods = comparison.beside
    cells = out / comparison.name / "cells"
    cells.mkdir(parents=True, exist_ok=True)
    for method in methods.split(","):
        for keep in ("", f"-keep{MAIN.keeps}"):
            for path in (out / name / "cells").glob(f"{method}{keep}-tasks*-seed0.json"):
                if not (cells / path.name).exists():
                    shutil.copyfile(path, cells / path.name)


def command(comparison: Comparison, stage: Stage, source: str, out: Path) -> Sequence[str]:
    """The comparison's command line."""
    return [
        sys.executable, "-m", "training", "compare",
        "--data", source, "--out", str(out / comparison.name),
        "--methods", stage.methods, "--keeps", stage.keeps,
        "--seeds", str(comparison.seeds), "--budget-s", str(comparison.budget_s),
        "--image-size", comparison.image_size, *SMALL, *comparison.flags,
    ]  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
