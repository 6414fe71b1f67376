"""What a subnet saves: the strategies against the paper's loop and against hard sharing.

    python -m benchmarks.engine                  the headline table: 40 tasks of one image
    python -m benchmarks.engine --grid           strategies x tasks x images x sizes x keep

Every ratio is taken inside one cell, between ways timed in turn. Cells that were measured with the
same code are kept: interrupted, the same command goes on. The loop's time is proportional to the
number of tasks, so with many tasks it is measured over a few of them and multiplied; such cells are
marked.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.bundles import CACHE
from benchmarks.code_digest import code_digest
from benchmarks.folded_pass import FoldedPass
from benchmarks.number_list import integers
from benchmarks.paper_loop import PaperLoop
from benchmarks.records import Records
from benchmarks.report import RESULTS, Report
from benchmarks.timing import Timing, ratio, side_by_side
from model.config import ModelConfig, PreprocessConfig, RoutingConfig
from model.forward import Forward
from model.network import RoutedNetwork, build
from model.plan import cost, make_plan, masked_cost
from model.rows import RowBatch
from model.self_check import largest_probability_difference
from model.strategies import make_forward, sample_batch
from model.tasks import Task

MEASURED_TASKS = 4  # of the loop, where it is extrapolated
# Of the grid, in rows times pixels: what would take minutes a call, or not fit into memory.
MOST_PIXELS = 45e6
MOST_PIXELS_MIXED = 4.5e6  # every row has activations of its own
PEAK_SIZE = 2048
HEADLINES = [(224, "all", 0.4), (64, "all", 0.4), (224, "last:2", 0.4), (64, "last:2", 0.4),
             (224, "last:2", 0.25), (64, "last:2", 0.25)]  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One network and one request."""

    size: int
    routed_layers: str
    keep: float
    tasks: int = 40
    images: int = 1

    @property
    def name(self) -> str:
        shape = f"{self.size}px-{self.routed_layers.replace(':', '')}-keep{self.keep:g}"
        return f"{shape}-{self.tasks}tasks-{self.images}images"

    @property
    def pixels(self) -> int:
        """Of all rows."""
        return self.tasks * self.images * self.size**2

    def network(self, routed_layers: str | None = None) -> RoutedNetwork:
        return build(
            ModelConfig(
                routing=RoutingConfig(
                    keep=self.keep, routed_layers=routed_layers or self.routed_layers
                ),
                preprocess=PreprocessConfig(height=self.size, width=self.size),
                tasks=tuple(Task(name=f"task-{index}") for index in range(self.tasks)),
            )
        ).eval()


def measure(
    cell: Cell, threads: int, rounds: int, *, bfloat16: bool, mixed: bool
) -> dict[str, Any]:
    """Times of every way to answer the cell's request, and their ratios to the loop."""
    network, shared = cell.network(), cell.network("none")
    batch = sample_batch(network, cell.images, cell.tasks)
    folded = FoldedPass(shared)
    forwards = {
        "dense": make_forward(shared, "subnet", workers=threads),
        "subnet": make_forward(network, "subnet", workers=threads),
    }
    if bfloat16:
        forwards["subnet bfloat16"] = make_forward(
            network, "subnet", dtype=torch.bfloat16, workers=threads
        )
    if mixed:
        forwards["mixed"] = make_forward(network, "mixed")
    several = MEASURED_TASKS if cell.images == 1 else 1
    measured = min(cell.tasks, several if cell.tasks * cell.images > 40 else cell.tasks)
    ways: dict[str, Callable[[], object]] = {
        f"loop {name}": _loop(PaperLoop(cell.network(), channels_last=last), batch, measured)
        for name, last in (("channels first", False), ("channels last", True))
    }
    ways["folded"] = lambda: folded(batch.images)
    ways |= {name: _forward(forward, batch) for name, forward in forwards.items()}
    timings = side_by_side(ways, rounds)
    loop, loop_last = (
        _scaled(timings[f"loop channels {order}"], cell.tasks / measured)
        for order in ("first", "last")
    )
    plan = cost(make_plan(network, range(cell.tasks)), range(cell.tasks))
    return {
        **asdict(cell),
        "loop_extrapolated_from_tasks": measured if measured < cell.tasks else None,
        "passes_by_multiply_adds": plan.macs / masked_cost(network).macs,
        "seconds": {name: timing.rounds for name, timing in timings.items()},
        "loop_over": {name: ratio(loop, timings[name]) for name in ("folded", *forwards)},
        "channels_last_loop_over": {name: ratio(loop_last, timings[name]) for name in forwards},
        "over_folded": {name: ratio(timings[name], timings["folded"]) for name in forwards},
        "over_dense": {name: ratio(timings[name], timings["dense"]) for name in forwards},
        "subnet_flops": 2 * plan.macs * cell.images / timings["subnet"].median,
        "largest_dp": {
            name: largest_probability_difference(forward, network)
            for name, forward in forwards.items()
            if name != "dense"
        },
    }


def peak_flops(rounds: int = 5) -> float:
    """Best floating point operations per second of a large float32 matrix product."""
    a = torch.randn(PEAK_SIZE, PEAK_SIZE)
    timing = side_by_side({"product": lambda: a @ a}, rounds)["product"]
    return 2 * PEAK_SIZE**3 / timing.best


def _loop(loop: PaperLoop, batch: RowBatch, tasks: int) -> Callable[[], object]:
    return lambda: loop(batch.images, range(tasks))


def _forward(forward: Forward, batch: RowBatch) -> Callable[[], object]:
    return lambda: forward(batch)


def _scaled(timing: Timing, factor: float) -> Timing:
    return Timing(tuple(seconds * factor for seconds in timing.rounds))


def _table(report: Report, results: list[dict[str, Any]], peak: float) -> None:
    names = [name for name in ("folded", "dense", "subnet", "subnet bfloat16", "mixed")
             if any(name in one["loop_over"] for one in results)]  # fmt: skip
    report.table(
        ["px", "routed", "keep", "tasks", "images", *(f"loop / {name}" for name in names),
         "channels-last loop / subnet", "subnet / folded", "subnet / dense", "by multiply-adds",
         "of peak", "max dp", "max dp bfloat16"],
        [[one["size"], one["routed_layers"], one["keep"],
          f"{one['tasks']}{'*' if one['loop_extrapolated_from_tasks'] else ''}", one["images"],
          *(one["loop_over"].get(name) for name in names),
          one["channels_last_loop_over"]["subnet"],
          one["over_folded"]["subnet"], one["over_dense"]["subnet"],
          one["passes_by_multiply_adds"], one["subnet_flops"] / peak, one["largest_dp"]["subnet"],
          one["largest_dp"].get("subnet bfloat16")]
         for one in results],
    )  # fmt: skip
    report.text(
        "`loop / way`: how many times faster than the paper's loop, one full masked pass per task "
        "in plain eager PyTorch; with PyTorch's own memory order, and in a column of its own with "
        "the loop helped by channels-last order. `folded`: one hard-shared pass with all heads the "
        "usual way, batch norm folded, channels last, eager; `dense`: the same through our engine "
        "(Winograd where it pays), the least that a network of this size costs here. "
        "`by multiply-adds`: the plan's work in passes of a direct convolution. `*`: the loop was "
        f"timed over a few of the tasks and multiplied. `of peak`: share of a {PEAK_SIZE} x "
        f"{PEAK_SIZE} float32 matrix product ({peak / 1e9:.0f} GFLOP/s in this run), counting a "
        "direct convolution's operations. `max dp`: largest difference of a probability from "
        "`masked` in float32. Medians over rounds."
    )


def main(
    grid: Annotated[bool, typer.Option(help="The whole grid instead of the headline.")] = False,
    sizes: Annotated[str, typer.Option(help="of the grid, px")] = "32,64,224",
    tasks: Annotated[str, typer.Option(help="of the grid")] = "1,10,40,312",
    images: Annotated[str, typer.Option(help="of the grid")] = "1,8,32",
    keeps: Annotated[str, typer.Option(help="of the grid")] = "0.2,0.4,0.6",
    routed: Annotated[str, typer.Option(help="of the grid; a semicolon between several")] = "all",
    threads: Annotated[int, typer.Option(help="of the engine and of the loop")] = 2,
    rounds: int = 5,
    fresh: Annotated[bool, typer.Option(help="Measure everything again.")] = False,
    out: Annotated[Path | None, typer.Option(help="folder for the result")] = None,
) -> None:
    """Measure and write table, plot and raw figures."""
    torch.set_num_threads(threads)
    if grid:
        wanted = [
            Cell(size, layers, keep, count, batch)
            for size, count, batch, keep, layers in itertools.product(
                integers(sizes), integers(tasks), integers(images),
                map(float, keeps.split(",")), routed.split(";"),
            )
        ]  # fmt: skip
    else:
        wanted = [Cell(*headline) for headline in HEADLINES]
    cells = [cell for cell in wanted if cell.pixels <= MOST_PIXELS]
    folder = out or RESULTS / ("engine-grid" if grid else "engine")
    report = Report(folder, f"Engine: VGG-11-BN, {threads} threads")
    peak = peak_flops()
    settings = {"threads": threads, "rounds": rounds, "code": code_digest("model")}
    records = Records(CACHE / "records" / folder.name, settings, fresh)
    results = []
    for cell in cells:
        record = records.read(cell.name)
        if not record:
            mixed = grid and cell.pixels <= MOST_PIXELS_MIXED
            found = measure(cell, threads, rounds, bfloat16=True, mixed=mixed)
            record = records.update(cell.name, found=found)
        results.append(record["found"])
        print(cell.name, {k: round(v, 2) for k, v in results[-1]["loop_over"].items()}, flush=True)
    _table(report, results, peak)
    if len(cells) < len(wanted):
        names = ", ".join(cell.name for cell in wanted if cell not in cells)
        report.text(f"Left out, because a single call takes minutes: {names}.")
    report.bars(
        "speedup",
        "Times faster than a full masked pass per task",
        "ratio to the loop",
        {f"{one['size']} px, {one['routed_layers']}, keep {one['keep']:g}, {one['tasks']} tasks, "
         f"{one['images']} images": one["loop_over"]["subnet"] for one in results},
    )  # fmt: skip
    report.write({"peak_flops": peak, "threads": threads, "rounds": rounds, "cells": results})


if __name__ == "__main__":
    typer.run(main)
