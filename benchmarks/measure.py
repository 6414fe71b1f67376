"""Measurements of one running server: its most, and how it answers at a given load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.environment import PeerUnavailableError
from benchmarks.load import Prepared, closed_loop, open_loop
from benchmarks.peers.base import Peer, Settings
from benchmarks.samples import capacity_rows_per_s, summarise
from benchmarks.server import Server
from benchmarks.traffic import Reference, Workload, check_answers, prepare

WARMUP_SHARE = 0.2
FIRST_ANSWER_LIMIT_S = 120.0
_SPEED_EDGE = 1024
_CONNECTIONS_PER_WORKER = 8


@dataclass(frozen=True)
class Durations:
    """How long each part takes, in seconds."""

    capacity_s: float = 30.0
    latency_s: float = 60.0
    max_s: float = 120.0  # of either, while too few requests have been answered
    min_requests: int = 100  # for percentiles


@dataclass(frozen=True)
class Inputs:
    """What is asked of every server alike."""

    images: Sequence[bytes]
    tasks: Sequence[str]
    reference: Reference

    def prepared(self, peer: Peer, workload: Workload, port: int) -> list[Prepared]:
        return prepare(peer, workload, port, self.images, self.tasks)


def wait_for_first_answers(
    peer: Peer, server: Server, inputs: Inputs, workload: Workload, workers: int
) -> float:
    """Seconds until real requests are answered: some servers are "ready" before their workers.

    With several workers several connections in a row must be.

    Raises:
        PeerUnavailableError: none was.
    """
    prepared = inputs.prepared(peer, workload, server.port)[:1]
    began = time.monotonic()
    missing = wanted = 1 if workers == 1 else _CONNECTIONS_PER_WORKER * workers
    while True:
        run = asyncio.run(closed_loop(server.port, prepared, 1, 0.0, max_requests=1))
        sample = run.samples[0]
        missing = missing - 1 if sample.ok else wanted
        if not missing:
            return time.monotonic() - began
        if sample.ok:
            continue
        if time.monotonic() - began > FIRST_ANSWER_LIMIT_S or not server.alive:
            problem = sample.error or f"status {sample.status}"
            raise PeerUnavailableError(
                f"no answer to a first request ({problem}); its log ends: {server.last_lines()}"
            )
        time.sleep(0.2)


def capacity(
    peer: Peer, server: Server, settings: Settings, inputs: Inputs, workload: Workload, d: Durations
) -> dict[str, Any]:
    """A closed loop after a warm-up: rows per second, and whether the answers are right."""
    prepared = inputs.prepared(peer, workload, server.port)
    warmup_s = d.capacity_s * WARMUP_SHARE
    run = asyncio.run(
        closed_loop(
            server.port,
            prepared,
            workload.clients,
            warmup_s + d.capacity_s,
            min_requests=6 * workload.clients,
            max_seconds=warmup_s + d.max_s,
        )
    )
    return {
        "rows_per_s": capacity_rows_per_s(run, warmup_s),
        "clients": workload.clients,
        "seconds": run.seconds,
        "summary": summarise(run).as_dict(),
        "answers": asdict(check_answers(peer, run, inputs.reference)),
        "rows_per_batch": peer.rows_per_batch(settings),
        "memory": asdict(server.memory()),
    }


def latency(
    peer: Peer, server: Server, inputs: Inputs, workload: Workload, rows_per_s: float, d: Durations
) -> dict[str, Any]:
    """An open loop at ``rows_per_s``; longer than usual where that gives too few requests."""
    prepared = inputs.prepared(peer, workload, server.port)
    rows = sum(one.rows for one in prepared) / len(prepared)
    requests_per_s = rows_per_s / rows
    seconds = min(max(d.latency_s, d.min_requests / requests_per_s), d.max_s)
    run = asyncio.run(open_loop(server.port, prepared, requests_per_s, seconds))
    return {
        "offered_rows_per_s": rows_per_s,
        "seconds": seconds,
        "summary": summarise(run).as_dict(),
        "answers": asdict(check_answers(peer, run, inputs.reference)),
    }


def machine_speed_gflops() -> float:
    """A fixed float32 product now: was the machine as fast for one peer as for another?"""
    left = np.ones((_SPEED_EDGE, _SPEED_EDGE), dtype=np.float32)
    best = min(_timed_product(left) for _ in range(8))
    return float(round(2 * _SPEED_EDGE**3 / best / 1e9, 1))


def _timed_product(matrix: np.ndarray[Any, Any]) -> float:
    began = time.perf_counter()
    matrix @ matrix
    return time.perf_counter() - began
