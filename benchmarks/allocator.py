"""What the usual variables for allocators and threads do to the service; the image sets none.

    python -m benchmarks.allocator [--preload /usr/lib/x86_64-linux-gnu/libjemalloc.so.2]

The same service under each of them in turn, several rounds of all, asked for all tasks of pictures
of many sizes: that is what fragments a heap. Run it on a quiet machine: threads that wait for one
another spin, so that on a busy one even the time of the processor goes up several times.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import bundles
from benchmarks.comparison import say
from benchmarks.images import jpeg
from benchmarks.load import closed_loop
from benchmarks.ours_running import OursAsShipped, service
from benchmarks.report import RESULTS, Report
from benchmarks.samples import summarise
from benchmarks.soak import different_sizes
from benchmarks.traffic import WORKLOADS, prepare

CLIENTS = 4
IMAGES = 64
IDLE_S = 5.0  # the service gives memory back while nobody asks
AS_SHIPPED = "as shipped"
GIB = str(2**30)
VARIABLES: dict[str, dict[str, str]] = {
    AS_SHIPPED: {},
    "MALLOC_ARENA_MAX=2": {"MALLOC_ARENA_MAX": "2"},
    "MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ 1 GiB": {
        "MALLOC_MMAP_THRESHOLD_": GIB,
        "MALLOC_TRIM_THRESHOLD_": GIB,
    },
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
}


@dataclass(frozen=True)
class Usage:
    """What a process has used since its start."""

    cpu_s: float
    page_faults: int  # without reading from disk: a page fetched from the system

    @classmethod
    def of(cls, pid: int) -> Usage:
        # The program's name, in brackets, may itself hold brackets and blanks.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return cls(ticks / os.sysconf("SC_CLK_TCK"), int(fields[7]))


def main(
    seconds: Annotated[float, typer.Option(help="Of each measurement.")] = 15.0,
    rounds: Annotated[int, typer.Option(help="Of all variables.")] = 3,
    preload: Annotated[
        list[Path] | None, typer.Option(help="Other allocators, as shared libraries.")
    ] = None,
    tasks: int = 40,
    image_size: int = 64,
    keep: float = 0.4,
    routed_layers: str = "last:3",
    out: Annotated[Path, typer.Option(help="Where results go.")] = RESULTS / "allocator",
) -> None:
    """Measure each in turn, and write medians over the rounds."""
    spec = bundles.BundleSpec(tasks, keep, image_size, routed_layers)
    bundles.ensure(spec)
    variables = VARIABLES | {
        f"LD_PRELOAD={library.name}": {"LD_PRELOAD": str(library)} for library in preload or []
    }
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for _ in range(rounds):
        for name, given in variables.items():
            figures = _measured(spec, given, seconds)
            found[name].append(figures)
            say(f"{name}: {', '.join(f'{key} {value:.4g}' for key, value in figures.items())}")
    _write(out, spec, found, seconds, rounds)
    say(f"results: {out}/README.md")


def _measured(
    spec: bundles.BundleSpec, given: Mapping[str, str], seconds: float
) -> dict[str, float]:
    peer = OursAsShipped({"TASKROUTE_REQUEST_TIMEOUT_MS": "120000", **given})
    images = [jpeg(number, *size) for number, size in enumerate(different_sizes(IMAGES))]
    with service(peer, spec, "allocator") as (server, _):
        prepared = prepare(peer, WORKLOADS["all"], server.port, images, spec.task_names)
        asyncio.run(closed_loop(server.port, prepared, CLIENTS, 3.0))  # warm-up
        before = Usage.of(server.pid)
        run = asyncio.run(closed_loop(server.port, prepared, CLIENTS, seconds))
        after, loaded_mb = Usage.of(server.pid), server.memory().rss_mb
        time.sleep(IDLE_S)
        idle_mb = server.memory().rss_mb
    summary = summarise(run)
    if summary.errors or not summary.ok:
        raise SystemExit(f"{dict(given)}: not every request was answered: {summary.errors}")
    rows = sum(sample.rows for sample in run.samples if sample.ok)
    return {
        "rows_per_s": summary.rows_per_s,
        "p99_ms": summary.p99_ms or 0.0,
        "cpu_us_per_row": 1e6 * (after.cpu_s - before.cpu_s) / rows,
        "page_faults_per_row": (after.page_faults - before.page_faults) / rows,
        "loaded_mb": loaded_mb,
        "idle_mb": idle_mb,
    }


def _write(
    out: Path,
    spec: bundles.BundleSpec,
    found: Mapping[str, list[dict[str, float]]],
    seconds: float,
    rounds: int,
) -> None:
    report = Report(out, "Allocator and thread variables")
    report.text(
        f"{spec.model}: all {spec.tasks} tasks of each picture, {IMAGES} JPEG files of 28 to 800 "
        f"px an edge, {CLIENTS} clients, {seconds:g} s each; medians of {rounds} rounds, with the "
        f"smallest and largest time of the processor. Idle is {IDLE_S:g} s after the load."
    )
    others = ("page_faults_per_row", "rows_per_s", "p99_ms", "loaded_mb", "idle_mb")
    rows = []
    for name, runs in found.items():
        cpu = [run["cpu_us_per_row"] for run in runs]
        medians = (statistics.median(run[key] for run in runs) for key in others)
        rows.append([name, statistics.median(cpu), min(cpu), max(cpu), *medians])
    report.table(
        ["variables", "µs of processor per row", "from", "to", "page faults per row", "rows/s",
         "p99, ms", "MB under load", "MB idle"],
        rows,
    )  # fmt: skip
    data: dict[str, Any] = {"bundle": spec.model, "seconds": seconds, "runs": dict(found)}
    report.write(data)


if __name__ == "__main__":
    typer.run(main)
