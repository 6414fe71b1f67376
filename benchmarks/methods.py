"""Every method of the papers, trained at equal processor time: the tables of docs/methods.md.

    TASKROUTE_DATA=/data python -m benchmarks.methods                     all comparisons
    TASKROUTE_DATA=/data python -m benchmarks.methods products-7          some of them

Each is a ``python -m training compare`` into ``benchmarks/results/methods/NAME``; finished runs are
kept there, so the same command goes on with what was cut short. The folder named by
``TASKROUTE_DATA`` holds the packs, one folder each; ``--fashion-mnist`` is that of its four files.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.derived_data import PRODUCT_COLUMNS
from benchmarks.method_comparison import BUILTIN, Comparison, Stage, chosen, command, source_of
from benchmarks.report import RESULTS

KEEP = "0.5"
METHODS = (
    "shared", "evidence", "cross-stitch", "single-task", "modulation-module", "modulation",
    "modulation-shift", "random-late", "paper", "residual-adapters",
)  # fmt: skip
"""In the order of what they teach, so that a comparison cut short has the main rows."""
STAGES = tuple(Stage(",".join(METHODS[:end]), KEEP) for end in (4, 9, len(METHODS)))

SMALLER = ("--width", "0.125")
"""An eighth of VGG-11's units: with a trunk per task a step is ten times as long."""
CLASSES = ("--tasks", "group:class", *SMALLER)

COMPARISONS = {
    one.name: one
    for one in (
        Comparison(
            "products-7",
            "fashion_products/fashion_products.npz,labels=labels.csv",
            20,
            "40x30",
            STAGES,
            flags=("--tasks", ",".join(PRODUCT_COLUMNS), *SMALLER),
        ),
        Comparison("fashion-mnist-10", "", 20, "28", STAGES, flags=CLASSES),
        Comparison("builtin-10", BUILTIN, 8, "28", STAGES, flags=CLASSES),
    )
}


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Of: {', '.join(COMPARISONS)}.")] = (
        None
    ),
    stages: Annotated[int, typer.Option(help="Only the first so many stages of each.")] = 9,
    fashion_mnist: Annotated[Path, typer.Option(help="Fashion-MNIST's four files.")] = Path(
        "build/fashion-mnist"
    ),
    out: Annotated[Path, typer.Option(help="Where results go.")] = RESULTS / "methods",
) -> None:
    """Compare methods; goes on with what an earlier call left unfinished."""
    wanted = chosen(names, COMPARISONS)
    sources = [source_of(one, fashion_mnist) for one in wanted]
    for stage in range(min(stages, len(STAGES))):
        for one, source in zip(wanted, sources, strict=True):
            code = subprocess.run(command(one, one.stages[stage], source, out)).returncode
            if code:
                raise typer.Exit(code)


if __name__ == "__main__":
    typer.run(main)
