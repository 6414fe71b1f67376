"""The parts of a comparison of servers: start each in turn, measure, record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import bare, bundles
from benchmarks.environment import PeerUnavailableError, peer_python
from benchmarks.measure import (
    Durations,
    Inputs,
    capacity,
    latency,
    machine_speed_gflops,
    wait_for_first_answers,
)
from benchmarks.peers.base import Settings, Strategy
from benchmarks.records import OURS, Configuration, Records, best_layouts
from benchmarks.registry import PEERS
from benchmarks.server import Server, free_port, running
from benchmarks.traffic import WORKLOADS

ENGINE_STRATEGIES: tuple[Strategy, ...] = ("masked", "subnet")
ENGINE_THREADS = (2, 1)
START_ATTEMPTS = 2  # some give their own processes only seconds to come up
# Shares of a capacity: high enough to need batching, low enough that queues stay finite.
LOADS = {"slowest": 0.6, "subnet": 0.6, "ours": 0.8}
_CARRIES = 0.9  # a server is asked for at most this share of its own capacity


@dataclass(frozen=True)
class Comparison:
    """Everything that the parts of a comparison share."""

    spec: bundles.BundleSpec
    repository: Path
    inputs: Inputs
    workloads: tuple[str, ...]
    durations: Durations
    cache: Path
    records: Records

    def start_settings(self, one: Configuration) -> Settings:
        return Settings(
            repository=str(self.repository),
            model=self.spec.model,
            port=free_port(),
            strategy=one.strategy,
            folder=str((self.cache / "run" / one.name).resolve()),
            workers=one.workers,
            threads=one.threads,
        )

    @contextmanager
    def started(self, one: Configuration) -> Iterator[tuple[Server, Settings]]:
        """The server of ``one``, having answered a first request."""
        peer = PEERS[one.peer]
        python = peer_python(peer, self.cache)
        with ExitStack() as stack:
            for attempt in range(1, START_ATTEMPTS + 1):
                settings = self.start_settings(one)
                try:
                    server = stack.enter_context(running(peer, python, settings))
                    workload = WORKLOADS[self.workloads[0]]
                    wait_for_first_answers(peer, server, self.inputs, workload, one.workers)
                    break
                except PeerUnavailableError as error:
                    stack.close()  # ends what did start
                    if attempt == START_ATTEMPTS:
                        raise
                    say(f"{one.name}: starting again: {error}")
            yield server, settings


def measure_engine(comparison: Comparison, source_size: int) -> dict[str, Any]:
    """The network alone, without HTTP: {strategy: {workload: {how: rows per second}}}."""
    record = comparison.records.read("engine")
    for strategy in ENGINE_STRATEGIES:
        if strategy in record:
            continue
        found: dict[str, dict[str, float]] = {name: {} for name in WORKLOADS}
        for threads in ENGINE_THREADS:
            say(f"engine ({strategy}), {threads} threads, no HTTP")
            speeds = bare.speed(
                comparison.repository, comparison.spec, strategy, threads, source_size
            )
            for name, by_size in speeds.items():
                for size, rows_per_s in by_size.items():
                    found[name][f"{size} requests, {threads} threads"] = rows_per_s
        record = comparison.records.update("engine", **{strategy: found})
    return {strategy: record[strategy] for strategy in ENGINE_STRATEGIES}


def measure_capacities(
    comparison: Comparison, configurations: Sequence[Configuration]
) -> list[Configuration]:
    """Those configurations that have a capacity, measured now or before."""
    measured = []
    for one in configurations:
        record = comparison.records.read(one.name)
        missing = [name for name in comparison.workloads if name not in record.get("capacity", {})]
        if missing:
            _try_capacities(comparison, one, missing)
            record = comparison.records.read(one.name)
        if all(name in record.get("capacity", {}) for name in comparison.workloads):
            measured.append(one)
    return measured


def _try_capacities(
    comparison: Comparison, one: Configuration, names: Sequence[str], key: str = "capacity"
) -> None:
    records, peer = comparison.records, PEERS[one.peer]
    say(f"{one.name}: starting")
    try:
        with comparison.started(one) as (server, settings):
            if key == "capacity":  # the page has these beside that, not beside our second one
                records.update(
                    one.name,
                    ready_after_s=server.ready_after_s,
                    machine_speed_gflops=machine_speed_gflops(),
                    measured_at=_now(),
                    skipped=None,
                )
            for name in names:
                found = capacity(
                    peer, server, settings, comparison.inputs, WORKLOADS[name], comparison.durations
                )
                problem = _problem(found)
                if problem is not None:
                    raise PeerUnavailableError(f"workload {name}: {problem}")
                records.update(one.name, **{key: {name: found}})
                say(f"{one.name}: {name} {found['rows_per_s']:.1f} rows/s")
    except PeerUnavailableError as error:
        say(f"{one.name}: skipped: {error}")
        records.update(one.name, skipped=str(error))


def _problem(found: dict[str, Any]) -> str | None:
    """Why a capacity cannot be believed."""
    errors, answers = found["summary"]["errors"], found["answers"]
    if answers["wrong"]:
        return (
            f"{answers['wrong']} of {answers['checked']} answers wrong: {answers['first_problem']}"
        )
    if not found["rows_per_s"]:
        return f"nothing answered: {errors}"
    if sum(errors.values()) > 0.01 * found["summary"]["requests"]:
        return f"errors: {errors}"
    return None


def offered_loads(best: dict[Configuration, float]) -> dict[str, float]:
    """Rows per second by the name of the load; a load is left out where nothing defines it."""
    ours = [value for one, value in best.items() if one.peer == OURS]
    subnet = [value for one, value in best.items() if one.strategy == "subnet"]
    limits = {
        "slowest": min(best.values(), default=0.0),
        "subnet": min(subnet) if len(subnet) > len(ours) else 0.0,
        "ours": max(ours, default=0.0),
    }
    return {name: LOADS[name] * limit for name, limit in limits.items() if limit > 0}


def measure_ours_again(comparison: Comparison, measured: Sequence[Configuration]) -> None:
    """Our capacity once more at the end: how far the machine drifted during the comparison."""
    for workload in comparison.workloads:
        best = best_layouts(comparison.records, measured, workload)
        for one in (one for one in best if one.peer == OURS):
            if workload not in comparison.records.read(one.name).get("again", {}):
                _try_capacities(comparison, one, [workload], key="again")


def measure_latencies(
    comparison: Comparison, measured: Sequence[Configuration]
) -> dict[str, dict[str, float]]:
    """Open loops for whoever can carry the load; returns the loads by workload and name."""
    loads: dict[str, dict[str, float]] = {}
    for workload in comparison.workloads:
        best = best_layouts(comparison.records, measured, workload)
        loads[workload] = offered_loads(best) if comparison.durations.latency_s > 0 else {}
        for one, rows_per_s in best.items():
            asked = {
                name: offered
                for name, offered in loads[workload].items()
                if offered <= _CARRIES * rows_per_s
            }
            _try_latencies(comparison, one, workload, asked)
    return loads


def _try_latencies(
    comparison: Comparison, one: Configuration, workload: str, asked: dict[str, float]
) -> None:
    records, peer = comparison.records, PEERS[one.peer]
    kept = records.read(one.name).get("latency", {})
    asked = {
        name: offered
        for name, offered in asked.items()
        if kept.get(f"{workload}:{name}", {}).get("offered_rows_per_s") != offered
    }
    if not asked:
        return
    try:
        with comparison.started(one) as (server, _):
            for name, offered in asked.items():
                found = latency(
                    peer,
                    server,
                    comparison.inputs,
                    WORKLOADS[workload],
                    offered,
                    comparison.durations,
                )
                records.update(one.name, latency={f"{workload}:{name}": found})
                p99 = found["summary"]["p99_ms"]
                say(f"{one.name}: {workload} at {offered:.1f} rows/s: p99 {p99} ms")
    except PeerUnavailableError as error:
        say(f"{one.name}: latency skipped: {error}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)
