"""Methods of training compared at equal processor time: the tables of docs/training-results.md.

    TASKROUTE_DATA=/data python -m benchmarks.training                all of them
    TASKROUTE_DATA=/data python -m benchmarks.training celeba-40      some of them

Each is a ``python -m training compare`` into ``benchmarks/results/training/NAME``; finished runs
are kept there, so the same command goes on with what was cut short. The folder named by
``TASKROUTE_DATA`` holds the packs, one folder each; ``--fashion-mnist`` is that of its four files.
What no pack holds as it is wanted is written from one below ``--build`` first.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.derived_data import product_columns, species_attributes
from benchmarks.method_comparison import BUILD, Comparison, Stage, chosen, command, source_of
from benchmarks.report import RESULTS

# In the order of what they teach, so that a comparison cut short has the main rows.
MAIN = Stage("shared,evidence", "0.5")
STAGES = (
    MAIN,
    Stage("shared,evidence,evidence-all,paper,random-late", "0.5"),
    Stage("shared,paper,evidence,evidence-all,random-late", "0.2,0.4,0.5,0.8"),
    # And the paper's recipe with its other way to draw routes: a share is common to all tasks.
    Stage("shared,paper,evidence,evidence-all,random-late,partition", "0.2,0.4,0.5,0.8"),
)

CELEBA = Comparison("celeba-40", "celeba10k/celeba10k.npz", 90, "44x36", STAGES)
CIFAR10 = Comparison(
    # Its eleventh task, the ten classes at once, is left out.
    "cifar10-10", "cifar10/cifar10_jpeg.npz", 90, "32", STAGES, flags=("--tasks", "group:class"),
)  # fmt: skip
PRODUCTS = Comparison("products-76", "fashion_products/fashion_products.npz", 90, "40x30", STAGES)
# 89 attributes, and the 100 species as one task more.
CUB = Comparison("cub-89", "cub100/cub100.npz", 90, "48", STAGES)
PACKS = (CIFAR10, CELEBA, PRODUCTS, CUB)

COMPARISONS = {
    one.name: one
    for one in (
        Comparison(
            "fashion-mnist-10",
            "",
            150,
            "28",
            (Stage("evidence", "0.5"), Stage("shared,evidence,paper", "0.5")),
            # The paper reports precision above recall, at a threshold that it does not state.
            flags=("--tasks", "group:class", "--threshold-objective", "f0.7"),
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
        # What is lost by fewer steps in the same time matters less, the more time there is.
        *(replace(one, name=f"{one.name}-240s", stages=(MAIN,), budget_s=240) for one in PACKS),
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
    build: Annotated[Path, typer.Option(help="For data written from packs.")] = BUILD,
    out: Annotated[Path, typer.Option(help="Where results go.")] = RESULTS / "training",
) -> None:
    """Compare methods of training; goes on with what an earlier call left unfinished."""
    wanted = chosen(names, COMPARISONS)
    sources = [source_of(one, fashion_mnist, build) for one in wanted]
    for one, source in zip(wanted, sources, strict=True):
        take_over(one, out)
        for stage in one.stages[:stages]:
            code = subprocess.run(command(one, stage, source, out)).returncode
            if code:
                raise typer.Exit(code)


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


if __name__ == "__main__":
    typer.run(main)
