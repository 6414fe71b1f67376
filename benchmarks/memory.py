"""Resident memory against the number of tasks, and the time from cold start to ready.

    python -m benchmarks.memory

For each number of tasks the service is started afresh, timed until it says it is ready, and asked
for all tasks of one picture in one request, so that every task's subnet is in use.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import bundles
from benchmarks.comparison import say
from benchmarks.images import jpegs
from benchmarks.load import closed_loop
from benchmarks.number_list import integers
from benchmarks.ours_running import OursAsShipped, service
from benchmarks.report import RESULTS, Report
from benchmarks.samples import summarise
from benchmarks.traffic import WORKLOADS, Reference, check_answers, prepare

REQUESTS = 5
# One request of hundreds of tasks must not meet the deadline of an ordinary one.
DEADLINE = {"TASKROUTE_REQUEST_TIMEOUT_MS": "120000"}


def main(
    tasks: Annotated[str, typer.Option(help="Numbers of tasks.")] = "1,10,40,312",
    image_size: int = 64,
    keep: float = 0.4,
    routed_layers: str = "all",
    starts: Annotated[int, typer.Option(help="Cold starts of each; the median counts.")] = 3,
    out: Annotated[Path, typer.Option(help="Where results go.")] = RESULTS / "memory",
) -> None:
    """Start, ask for everything, read the memory."""
    torch_s = min(_import_torch_s() for _ in range(3))
    say(f"importing torch takes {torch_s:.2f} s")
    rows = []
    for count in integers(tasks):
        spec = bundles.BundleSpec(count, keep, image_size, routed_layers)
        bundles.ensure(spec)
        measured = [_measure(spec) for _ in range(starts)]
        row = {key: statistics.median(one[key] for one in measured) for key in measured[0]}
        rows.append({"tasks": count, **row, "beyond_torch_s": row["ready_after_s"] - torch_s})
        say(f"{count} tasks: {row['asked_mb']:.0f} MB, ready after {row['ready_after_s']:.2f} s")
    _write(out, rows, torch_s, image_size, keep, routed_layers)
    say(f"results: {out}/README.md")


def _measure(spec: bundles.BundleSpec) -> dict[str, float]:
    """One cold start and a few requests for all tasks."""
    peer = OursAsShipped(DEADLINE)
    images = jpegs(REQUESTS, 2 * spec.image_size, 2 * spec.image_size)
    with service(peer, spec, "memory") as (server, _):
        ready_mb = server.memory().rss_mb
        prepared = prepare(
            peer, WORKLOADS["all"], server.port, images, spec.task_names, count=REQUESTS
        )
        run = asyncio.run(
            closed_loop(server.port, prepared, 1, 3600, max_requests=REQUESTS, keep_every=1)
        )
        verdict = check_answers(peer, run, Reference(spec.task_names, []))
        if verdict.wrong or verdict.checked != REQUESTS:
            problem = verdict.first_problem or [sample.error for sample in run.samples]
            raise SystemExit(f"{spec.model}: not every request was answered: {problem}")
        summary = summarise(run)
        assert summary.p50_ms is not None
        return {
            "ready_after_s": server.ready_after_s,
            "ready_mb": ready_mb,
            "asked_mb": server.memory().rss_mb,
            "first_request_ms": (run.samples[0].done - run.samples[0].sent) * 1000,
            "request_ms": summary.p50_ms,
        }


def _import_torch_s() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.monotonic() - began


def _write(
    out: Path,
    rows: list[dict[str, Any]],
    torch_s: float,
    image_size: int,
    keep: float,
    routed_layers: str,
) -> None:
    report = Report(out, f"Memory and cold start, {image_size} px, keep {keep:g}, {routed_layers}")
    report.text(
        f"Importing torch alone: {torch_s:.2f} s. Each row: medians of cold starts; then "
        f"{REQUESTS} requests, each for all tasks of one picture."
    )
    for before, row in zip([None, *rows], rows, strict=False):
        more = None if before is None else row["tasks"] - before["tasks"]
        row["mb_per_added_task"] = (row["asked_mb"] - before["asked_mb"]) / more if before else None
    columns = {
        "tasks": "tasks",
        "ready_after_s": "ready after s",
        "beyond_torch_s": "beyond importing torch, s (aim <= 5)",
        "ready_mb": "MB when ready",
        "asked_mb": "MB after all tasks",
        "mb_per_added_task": "MB per added task",
        "first_request_ms": "first request ms",
        "request_ms": "request ms, median",
    }
    report.table(list(columns.values()), [[row[key] for key in columns] for row in rows])
    counts = [float(row["tasks"]) for row in rows]
    report.lines(
        "memory",
        "Resident memory by number of tasks",
        ("tasks", "MB"),
        {
            "when ready": (counts, [row["ready_mb"] for row in rows]),
            "after all tasks": (counts, [row["asked_mb"] for row in rows]),
        },
    )
    report.write({"import_torch_s": torch_s, "rows": rows})


if __name__ == "__main__":
    typer.run(main)
