"""How much of the engine's own speed arrives at a client.

    python -m benchmarks.http_share

The engine alone and the service over HTTP take turns of a few seconds in one process, so that both
see the same machine; what is reported is the ratio within a round. Every request is a JPEG file
that all tasks are asked about: decoding, scheduling, HTTP, JSON and the load generator share the
processors with the engine.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import typer
from torch import Tensor

from benchmarks import bundles
from benchmarks.comparison import say
from benchmarks.images import jpegs
from benchmarks.load import closed_loop
from benchmarks.ours_running import OursAsShipped, service
from benchmarks.report import RESULTS, Report
from benchmarks.samples import summarise
from benchmarks.stolen import stolen_since
from benchmarks.traffic import WORKLOADS, prepare
from model.repository import Repository
from model.rows import RowBatch
from model.strategies import make_forward, sample_batch

PICTURES = 8  # in a batch of the engine alone
# Over HTTP half of the clients wait while the others' pictures are computed.
CLIENTS = 2 * PICTURES
PAUSE_S = 0.5


class Round(NamedTuple):
    """Rows per second, and the share of processor time that others had."""

    alone: float
    over_http: float
    stolen: float | None


def main(
    seconds: Annotated[float, typer.Option(help="Of each turn.")] = 5.0,
    rounds: int = 7,
    image_size: int = 64,
    tasks: int = 40,
    keep: float = 0.4,
    routed_layers: str = "all",
    threads: int = 2,
    clients: Annotated[int, typer.Option(help="Of the closed loop over HTTP.")] = CLIENTS,
    out: Annotated[Path, typer.Option(help="Where results go.")] = RESULTS / "http_share",
) -> None:
    """Measure in turn, and write the rounds."""
    torch.set_num_threads(threads)
    spec = bundles.BundleSpec(tasks, keep, image_size, routed_layers)
    network = Repository(str(bundles.ensure(spec))).read(spec.model).network()
    forward = make_forward(network, "subnet", workers=threads)
    batch = sample_batch(network, PICTURES, tasks)
    peer = OursAsShipped({"TASKROUTE_THREADS": str(threads)})
    images = jpegs(64, 2 * image_size, 2 * image_size)
    found: list[Round] = []
    with service(peer, spec, "http-share") as (server, _):
        prepared = prepare(peer, WORKLOADS["all"], server.port, images, spec.task_names)

        def over_http() -> float:
            run = asyncio.run(closed_loop(server.port, prepared, clients, seconds))
            summary = summarise(run)
            if summary.errors:
                raise SystemExit(f"not every request was answered: {summary.errors}")
            return summary.rows_per_s

        for number in range(rounds + 1):
            stolen = stolen_since()
            alone, answered = _turn(lambda: _speed(forward, batch, seconds)), _turn(over_http)
            if number:  # the first is a warm-up
                found.append(Round(alone, answered, stolen()))
                say(f"engine {alone:.0f} rows/s, over HTTP {answered:.0f}: {answered / alone:.3f}")
    _write(out, spec, found, seconds, clients)


def _speed(forward: Callable[[RowBatch], Tensor], batch: RowBatch, seconds: float) -> float:
    """Rows per second of the batch over and over."""
    began, runs = time.perf_counter(), 0
    while (taken := time.perf_counter() - began) < seconds:
        forward(batch)
        runs += 1
    return runs * len(batch) / taken


def _turn(measure: Callable[[], float]) -> float:
    time.sleep(PAUSE_S)  # threads that spin after their last call come to rest
    return measure()


def _write(
    out: Path, spec: bundles.BundleSpec, found: list[Round], seconds: float, clients: int
) -> None:
    ratios = [one.over_http / one.alone for one in found]
    stolen = [one.stolen for one in found if one.stolen is not None]
    report = Report(out, f"What of the engine arrives over HTTP: {spec.model}")
    report.table(
        ["round", "engine alone, rows/s", "over HTTP, rows/s", "ratio", "processor time stolen"],
        [
            *(
                [number + 1, one.alone, one.over_http, ratio, _known(one.stolen)]
                for number, (one, ratio) in enumerate(zip(found, ratios, strict=True))
            ),
            [
                "median",
                statistics.median(one.alone for one in found),
                statistics.median(one.over_http for one in found),
                statistics.median(ratios),
                _known(statistics.median(stolen) if stolen else None),
            ],
        ],
    )
    report.text(
        f"Turns of {seconds:g} s. Engine: batches of {PICTURES} pictures, all tasks. HTTP: "
        f"{clients} clients, each request a JPEG file and all tasks; the load generator runs on "
        "the same processors. Stolen is the share that the machine's host gave to others: it costs "
        "threads that wait for each other more than it takes."
    )
    report.write({
        "bundle": spec.model, "seconds": seconds, "clients": clients, "rounds": found,
        "ratios": ratios,
    })  # fmt: skip
    say(f"median ratio {statistics.median(ratios):.3f}; results: {out}/README.md")


def _known(share: float | None) -> float | str:
    return "–" if share is None else share


if __name__ == "__main__":
    typer.run(main)
