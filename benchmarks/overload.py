"""Three times as much traffic as the service can carry, for a minute.

    python -m benchmarks.overload

What has to hold: requests that were accepted are answered within their deadline, all others get
429 with a sensible ``Retry-After`` at once, memory stays flat, and the service answers as fast as
before within a second of the end.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import bundles
from benchmarks.comparison import say
from benchmarks.images import jpegs
from benchmarks.load import Client, Prepared, closed_loop, open_loop
from benchmarks.ours_running import OursWithDeadline, service
from benchmarks.report import RESULTS, Report
from benchmarks.samples import SHED, Run, Sample, capacity_rows_per_s, summarise
from benchmarks.server import Server
from benchmarks.traffic import WORKLOADS, prepare

HALF_LOAD = 0.5
PROBE_EVERY_S = 0.02
PROBE_FOR_S = 5.0
MEMORY_EVERY_S = 0.5
SENSIBLE_RETRY_S = (1, 30)
# More than are ever unanswered: it is the service that must keep arrivals from waiting.
CONNECTIONS = 8192


class MemoryWatch:
    """Resident memory of a server over time, read by a thread of its own."""

    def __init__(self, server: Server) -> None:
        self.readings: list[tuple[float, float]] = []  # (time.monotonic(), MB)
        self._server = server
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(MEMORY_EVERY_S):
            self.readings.append((time.monotonic(), self._server.memory().rss_mb))


@dataclass
class Probes:
    """Single requests after the load has ended."""

    samples: list[Sample] = field(default_factory=list)  # times from the end of the load

    async def run(self, port: int, prepared: Prepared) -> None:
        client = Client(port, connections=1, timeout_s=5.0)
        while client.now < PROBE_FOR_S:
            self.samples.append(await client.ask(prepared, client.now))
            await asyncio.sleep(PROBE_EVERY_S)
        client.close()

    def recovered_after_s(self, limit_ms: float) -> float | None:
        """When the first probe was sent from which on all were answered within ``limit_ms``."""
        slow = [
            index
            for index, one in enumerate(self.samples)
            if not one.ok or (one.done - one.sent) * 1000 > limit_ms
        ]
        first_good = slow[-1] + 1 if slow else 0
        if first_good >= len(self.samples):
            return None
        return self.samples[first_good].sent


def main(
    workload: Annotated[str, typer.Option(help="all or zipf.")] = "zipf",
    factor: Annotated[float, typer.Option(help="Offered load over capacity.")] = 3.0,
    seconds: Annotated[float, typer.Option(help="Length of the overload.")] = 60.0,
    deadline_ms: Annotated[int, typer.Option(help="X-Request-Timeout-Ms of each request.")] = 2000,
    image_size: int = 64,
    tasks: int = 40,
    keep: float = 0.4,
    routed_layers: str = "all",
    capacity_s: Annotated[float, typer.Option(help="To measure the capacity.")] = 20.0,
    out: Annotated[Path, typer.Option(help="Where results go.")] = RESULTS / "overload",
) -> None:
    """Overload the service and watch it."""
    spec = bundles.BundleSpec(tasks, keep, image_size, routed_layers)
    peer, kind = OursWithDeadline(deadline_ms), WORKLOADS[workload]
    images = jpegs(64, 2 * image_size, 2 * image_size)
    with service(peer, spec, "overload") as (server, _):
        prepared = prepare(peer, kind, server.port, images, spec.task_names)
        rows = sum(one.rows for one in prepared) / len(prepared)
        full = asyncio.run(closed_loop(server.port, prepared, kind.clients, capacity_s))
        capacity = capacity_rows_per_s(full, capacity_s / 5)
        say(f"capacity {capacity:.1f} rows/s")
        half = asyncio.run(
            open_loop(server.port, prepared, HALF_LOAD * capacity / rows, capacity_s)
        )
        say(f"half load: p99 {summarise(half).p99_ms} ms; now {factor:g} times capacity")
        probes, tasks_running = Probes(), []

        def start_probes(_: Client) -> None:
            tasks_running.append(asyncio.create_task(probes.run(server.port, prepared[0])))

        async def overload() -> Run:
            found = await open_loop(
                server.port,
                prepared,
                factor * capacity / rows,
                seconds,
                connections=CONNECTIONS,
                at_end=start_probes,
            )
            await asyncio.gather(*tasks_running)
            return found

        with MemoryWatch(server) as memory:
            time.sleep(5)
            run = asyncio.run(overload())
            time.sleep(5)
    result = {
        "bundle": spec.model,
        "workload": workload,
        "factor": factor,
        "seconds": seconds,
        "deadline_ms": deadline_ms,
        "capacity_rows_per_s": capacity,
        "half_load": summarise(half).as_dict(),
        "overload": summarise(run).as_dict(),
        "retry_after": _retry_after(run.samples),
        "shed_p99_ms": _shed_p99_ms(run.samples),
        "goodput_share_of_capacity": _goodput(run, deadline_ms) / capacity,
        "memory_mb": _memory(memory.readings, run),
        "recovered_after_s": probes.recovered_after_s(summarise(half).p99_ms or deadline_ms),
        "probes": [asdict(sample) for sample in probes.samples],
        "memory_readings": [(at - run.started_at, mb) for at, mb in memory.readings],
    }
    _write(out, result, run, capacity)
    say(f"results: {out}/README.md")


def _retry_after(samples: Sequence[Sample]) -> dict[str, Any]:
    """What the 429 answers said."""
    shed = [sample.retry_after for sample in samples if sample.status == SHED]
    numbers = [int(one) for one in shed if one is not None and one.isdigit()]
    low, high = SENSIBLE_RETRY_S
    return {
        "answers": len(shed),
        "without_a_number": len(shed) - len(numbers),
        "outside_1_to_30_s": sum(not low <= one <= high for one in numbers),
        "values_s": dict(sorted(Counter(numbers).items())),
        "median_s": statistics.median(numbers) if numbers else None,
    }


def _shed_p99_ms(samples: Sequence[Sample]) -> float | None:
    taken = [(s.done - s.intended) * 1000 for s in samples if s.status == SHED]
    return float(np.percentile(taken, 99)) if taken else None


def _goodput(run: Run, deadline_ms: int) -> float:
    """Rows per second answered in time during the load."""
    good = [
        one.rows
        for one in run.samples
        if one.ok and (one.done - one.intended) * 1000 <= deadline_ms and one.done <= run.seconds
    ]
    return sum(good) / run.seconds


def _memory(readings: Sequence[tuple[float, float]], run: Run) -> dict[str, float]:
    """Before, at most, in the second half of the load against the first, and after."""
    at = [(when - run.started_at, mb) for when, mb in readings]
    middle = run.seconds / 2
    first = [mb for when, mb in at if 0 <= when < middle]
    second = [mb for when, mb in at if middle <= when < run.seconds]
    return {
        "before": at[0][1],
        "largest": max(mb for _, mb in at),
        "after": at[-1][1],
        "second_half_over_first": statistics.mean(second) / statistics.mean(first),
    }


def _write(out: Path, result: dict[str, Any], run: Run, capacity: float) -> None:
    report = Report(out, f"Overload: {result['factor']:g} times capacity, {result['bundle']}")
    s, retry, memory = result["overload"], result["retry_after"], result["memory_mb"]
    report.text(
        f"Workload {result['workload']}: capacity {capacity:.1f} rows/s (closed loop), then "
        f"{s['offered_rows_per_s']:.1f} rows/s offered for {result['seconds']:g} s (open loop, "
        f"Poisson), each request with a deadline of {result['deadline_ms']} ms."
    )
    report.table(
        ["what", "aim", "measured"],
        [
            ["accepted: p99, ms", f"<= {result['deadline_ms']}", s["p99_ms"]],
            ["accepted: p50, ms", "", s["p50_ms"]],
            [
                "shed with 429",
                "the rest",
                f"{s['shed']} of {s['requests']} ({s['shed_share']:.1%})",
            ],
            ["neither 200 nor 429", "0", str(s["errors"] or 0)],
            ["429: answered within, p99 ms", "", result["shed_p99_ms"]],
            ["429: Retry-After, seconds: count", "1 to 30", str(retry["values_s"])],
            ["429 without a number", "0", retry["without_a_number"]],
            ["rows in time / capacity", "near 1", result["goodput_share_of_capacity"]],
            ["memory before, most, after, MB", "", _three(memory)],
            ["memory, second half of the load / first", "1.0", memory["second_half_over_first"]],
            ["as fast as at half load again after, s", "<= 1", result["recovered_after_s"]],
            ["generator's delay, p99 ms", "small", s["send_delay_p99_ms"]],
        ],
    )
    seconds = range(int(result["seconds"]))
    answered, shed, p99 = _by_second(run)
    xs = [float(one) for one in seconds]
    report.lines(
        "answers",
        "Answers by second of arrival",
        ("seconds", "requests/s"),
        {"answered": (xs, answered), "shed (429)": (xs, shed)},
    )
    report.lines(
        "latency",
        "p99 of the accepted by second of arrival",
        ("seconds", "ms"),
        {
            "p99": (xs, p99),
            "deadline": ([xs[0], xs[-1]], [float(result["deadline_ms"])] * 2),
        },
    )
    times = [when for when, _ in result["memory_readings"]]
    report.lines(
        "memory",
        "Resident memory",
        ("seconds from the start of the overload", "MB"),
        {"resident": (times, [mb for _, mb in result["memory_readings"]])},
        spans=[(0.0, run.seconds, "overload")],
    )
    report.write(result)


def _three(memory: dict[str, float]) -> str:
    return ", ".join(f"{memory[key]:.0f}" for key in ("before", "largest", "after"))


def _by_second(run: Run) -> tuple[list[float], list[float], list[float]]:
    """Per second of arrival: answered, shed, p99 of the answered in ms."""
    count = int(run.seconds)
    taken: list[list[float]] = [[] for _ in range(count)]
    shed = [0.0] * count
    for one in run.samples:
        second = int(one.intended)
        if second >= count:
            continue
        if one.ok:
            taken[second].append((one.done - one.intended) * 1000)
        elif one.status == SHED:
            shed[second] += 1
    p99 = [float(np.percentile(one, 99)) if one else 0.0 for one in taken]
    return [float(len(one)) for one in taken], shed, p99


if __name__ == "__main__":
    typer.run(main)
