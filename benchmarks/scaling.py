"""One process with one thread, two of them, one with two threads: what replicas add.

    python -m benchmarks.scaling

Each process is a replica as an orchestrator would start it: its own copy of the model, one thread,
one port. All are asked at the same time, each by clients of its own, for all tasks of a picture.
The rows/s of one thread, and what a second process adds, are what docs/sizing.md reckons with:
``python -m benchmarks.sizing --write docs/sizing.md`` takes them over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import bundles
from benchmarks.comparison import say
from benchmarks.images import jpegs
from benchmarks.load import Prepared, closed_loop
from benchmarks.ours_running import OursAsShipped, service
from benchmarks.report import RESULTS, Report
from benchmarks.samples import Run, summarise
from benchmarks.traffic import WORKLOADS, prepare

CLIENTS = 8  # of each process
IMAGES = 32


def main(
    seconds: Annotated[float, typer.Option(help="Of each measurement.")] = 20.0,
    tasks: int = 40,
    image_size: int = 64,
    keep: float = 0.4,
    routed_layers: str = "last:3",
    out: Annotated[Path, typer.Option(help="Where results go.")] = RESULTS / "scaling",
) -> None:
    """Measure the three layouts one after another, the first one twice."""
    spec = bundles.BundleSpec(tasks, keep, image_size, routed_layers)
    bundles.ensure(spec)
    rows = []
    for processes, threads in ((1, 1), (2, 1), (1, 2), (1, 1)):
        rate = _rows_per_s(spec, processes, threads, seconds)
        rows.append({"processes": processes, "threads": threads, "rows_per_s": rate})
        say(f"{processes} x {threads}: {rate:.0f} rows/s")
    _write(out, spec, rows, seconds)
    say(f"results: {out}/README.md")


def _rows_per_s(spec: bundles.BundleSpec, processes: int, threads: int, seconds: float) -> float:
    """Rows answered a second, by all processes together."""
    peer = OursAsShipped({"TASKROUTE_THREADS": str(threads), "TASKROUTE_DECODE_THREADS": "1"})
    images = jpegs(IMAGES, 2 * spec.image_size, 2 * spec.image_size)
    with ExitStack() as stack:
        asked: list[tuple[int, list[Prepared]]] = []
        for number in range(processes):
            server, _ = stack.enter_context(service(peer, spec, f"scaling-{number}"))
            prepared = prepare(peer, WORKLOADS["all"], server.port, images, spec.task_names)
            asked.append((server.port, prepared))
        asyncio.run(_together(asked, 2.0))  # warm-up
        runs = asyncio.run(_together(asked, seconds))
    wrong = [summary.errors for summary in map(summarise, runs) if summary.errors]
    if wrong:
        raise SystemExit(f"{processes} processes: not every request was answered: {wrong[0]}")
    return sum(summarise(run).rows_per_s for run in runs)


async def _together(asked: Sequence[tuple[int, list[Prepared]]], seconds: float) -> list[Run]:
    return await asyncio.gather(
        *(closed_loop(port, prepared, CLIENTS, seconds) for port, prepared in asked)
    )


def _write(
    out: Path, spec: bundles.BundleSpec, rows: list[dict[str, float]], seconds: float
) -> None:
    report = Report(out, "Scaling: processes and threads")
    report.text(
        f"{spec.model}: all {spec.tasks} tasks of each picture, JPEG files of "
        f"{2 * spec.image_size} px; {CLIENTS} clients for each process, {seconds:g} s each. The "
        "last row repeats the first: its ratio shows how steady the machine was."
    )
    first = rows[0]["rows_per_s"]
    report.table(
        ["processes", "threads of each", "rows/s", "ratio to the first"],
        [
            [row["processes"], row["threads"], row["rows_per_s"], row["rows_per_s"] / first]
            for row in rows
        ],
    )
    report.write({"bundle": spec.model, "tasks": spec.tasks, "seconds": seconds, "rows": rows})


if __name__ == "__main__":
    typer.run(main)
