"""Ten thousand requests with a thousand different image sizes: does memory stay where it is?

    python -m benchmarks.soak

Decoders and convolution libraries keep caches by shape, and allocators keep arenas: a server that
is fed every size there is may grow for hours. The warm-up shows it each size once.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import bundles
from benchmarks.comparison import say
from benchmarks.images import jpeg
from benchmarks.load import closed_loop
from benchmarks.ours_running import OursAsShipped, service
from benchmarks.report import RESULTS, Report
from benchmarks.samples import Run, summarise
from benchmarks.traffic import Workload, prepare

SMALLEST, LARGEST = 28, 800  # edges of the pictures
CLIENTS = 4
TASKS_PER_REQUEST = 4
EDGE_SHARE = 20  # growth is judged between the first and the last 1/20 of the readings


def main(
    requests: Annotated[int, typer.Option(help="After the warm-up.")] = 10_000,
    sizes: Annotated[int, typer.Option(help="Different image sizes.")] = 1_000,
    image_size: int = 64,
    tasks: int = 40,
    keep: float = 0.4,
    routed_layers: str = "all",
    out: Annotated[Path, typer.Option(help="Where results go.")] = RESULTS / "soak",
) -> None:
    """Send them all and watch the service's memory."""
    spec = bundles.BundleSpec(tasks, keep, image_size, routed_layers)
    peer, workload = OursAsShipped(), Workload("zipf", CLIENTS, TASKS_PER_REQUEST)
    say(f"{sizes} pictures of different sizes")
    images = [jpeg(number, *size) for number, size in enumerate(different_sizes(sizes))]
    with service(peer, spec, "soak") as (server, _):
        prepared = prepare(peer, workload, server.port, images, spec.task_names, count=sizes)
        readings: list[tuple[int, float]] = []
        every = max(1, requests // 200)

        def read(done: int) -> None:
            if done % every == 0:
                readings.append((done, server.memory().rss_mb))
            if done % max(1, requests // 10) == 0:
                say(f"{done} requests: {server.memory().rss_mb:.0f} MB")

        say("warm-up: each size once")
        asyncio.run(closed_loop(server.port, prepared, CLIENTS, 3600, max_requests=sizes))
        warm = server.memory().rss_mb
        run = asyncio.run(
            closed_loop(server.port, prepared, CLIENTS, 3600, max_requests=requests, on_sample=read)
        )
    result = {
        "bundle": spec.model,
        "requests": requests,
        "sizes": sizes,
        "edges_px": [SMALLEST, LARGEST],
        "after_warm_up_mb": warm,
        "growth": growth([mb for _, mb in readings]),
        "summary": summarise(run).as_dict(),
        "readings": readings,
    }
    _write(out, result, run)
    say(f"results: {out}/README.md")


def different_sizes(count: int, seed: int = 0) -> list[tuple[int, int]]:
    """``count`` different (width, height)."""
    generator = random.Random(seed)
    found: dict[tuple[int, int], None] = {}
    while len(found) < count:
        found[generator.randint(SMALLEST, LARGEST), generator.randint(SMALLEST, LARGEST)] = None
    return list(found)


def growth(readings: Sequence[float]) -> float:
    """Mean of the last readings over the mean of the first, less one."""
    edge = max(1, len(readings) // EDGE_SHARE)
    return statistics.mean(readings[-edge:]) / statistics.mean(readings[:edge]) - 1


def _write(out: Path, result: dict[str, Any], run: Run) -> None:
    report = Report(out, f"Soak: {result['requests']} requests, {result['sizes']} image sizes")
    s = result["summary"]
    report.text(
        f"{result['bundle']}; JPEG files of {SMALLEST} to {LARGEST} pixels an edge, "
        f"{TASKS_PER_REQUEST} tasks each, {CLIENTS} clients. The warm-up sends each size once."
    )
    report.table(
        ["what", "aim", "measured"],
        [
            ["growth of resident memory after warm-up", "< 5 %", f"{result['growth']:+.2%}"],
            ["resident memory after warm-up, MB", "", result["after_warm_up_mb"]],
            ["answered", str(s["requests"]), s["ok"]],
            ["errors", "0", str(s["errors"] or 0)],
            ["requests/s", "", len(run.samples) / run.seconds],
            ["p99, ms", "", s["p99_ms"]],
        ],
    )
    xs, ys = zip(*result["readings"], strict=True)
    report.lines("memory", "Resident memory", ("requests", "MB"), {"resident": (xs, ys)})
    report.write(result)


if __name__ == "__main__":
    typer.run(main)
