"""The network without a server: right answers to compare with, and the speed to hold HTTP against.

Run as a process of its own (``python -m benchmarks.bare``), so that the load generator never loads
torch. Prints JSON.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from benchmarks.bundles import BundleSpec
from benchmarks.images import jpegs
from benchmarks.peers.base import Settings, Strategy
from benchmarks.server import ROOT, thread_variables
from benchmarks.traffic import ALL_TASKS, WORKLOADS, Reference

BATCHES = (1, 8, 32)  # requests per batch: alone, and as servers gather them
_MIN_RUNS = 2
_LONG_S = 20.0

app = typer.Typer(add_completion=False)


def reference(repository: Path, spec: BundleSpec, images: int, source_size: int) -> Reference:
    """Right answers for the first ``images`` pictures of :func:`benchmarks.images.jpegs`."""
    found = _ask("reference", repository, spec, "masked", 2, images, source_size)
    return Reference(spec.task_names, found)


def speed(
    repository: Path, spec: BundleSpec, strategy: Strategy, threads: int, source_size: int
) -> dict[str, dict[str, float]]:
    """Rows per second by workload and batch size: {"all": {"1": ..., "8": ...}, "zipf": {...}}."""
    found: dict[str, dict[str, float]] = _ask(
        "measure", repository, spec, strategy, threads, max(BATCHES), source_size
    )
    return found


def _ask(
    command: str,
    repository: Path,
    spec: BundleSpec,
    strategy: Strategy,
    threads: int,
    images: int,
    source_size: int,
) -> Any:
    settings = Settings(str(repository), spec.model, 0, strategy, "", threads=threads)
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks.bare", command, str(images), str(source_size)],
        cwd=ROOT,
        env={**os.environ, **thread_variables(threads), **settings.environment()},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(finished.stdout)


@app.command("reference")
def print_reference(images: int, source_size: int) -> None:
    """Probabilities of every task for the first pictures, by the masked network."""
    from benchmarks.peers.handler import Handler

    handler = Handler(Settings.from_environment())
    found = [
        {
            entry["task"]: entry["probability"]
            for entry in handler.answer([(picture, ALL_TASKS)])[0]["predictions"]
        }
        for picture in jpegs(images, source_size, source_size)
    ]
    print(json.dumps(found))


@app.command("measure")
def print_speed(images: int, source_size: int, seconds: float = 4.0) -> None:
    """Rows per second of decoded batches, by workload and number of requests in a batch."""
    import torch

    from benchmarks.peers.handler import Handler
    from model.rows import RowBatch
    from model.strategies import make_forward

    settings = Settings.from_environment()
    handler = Handler(settings)
    forward = make_forward(handler.network, settings.strategy, workers=settings.threads)
    pixels = torch.stack([handler.decode(one) for one in jpegs(images, source_size, source_size)])
    found: dict[str, dict[str, float]] = {}
    for name, workload in WORKLOADS.items():
        found[name] = {}
        asked = workload.selectors(handler.tasks.names, images, seed=0)
        for size in BATCHES:
            chosen = [handler.tasks.select(one.split(",")) for one in asked[:size]]
            lengths = torch.tensor([len(one) for one in chosen])
            batch = RowBatch(
                pixels[:size],
                torch.arange(size).repeat_interleave(lengths),
                torch.tensor([task for one in chosen for task in one]),
            )
            taken = _seconds_per_run(functools.partial(forward, batch), seconds)
            found[name][str(size)] = len(batch) / taken
            if taken > _LONG_S:
                break  # larger batches would take minutes and hardly be faster
    print(json.dumps(found))


def _seconds_per_run(run: Callable[[], object], budget_s: float) -> float:
    """Median after one warm-up run; at least two runs, whatever they take."""
    run()
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < _MIN_RUNS or time.perf_counter() - began < budget_s:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


if __name__ == "__main__":
    app()
