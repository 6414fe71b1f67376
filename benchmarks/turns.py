"""Two servers of the same subnets, asked in turns.

    python -m benchmarks.turns                       against Triton
    python -m benchmarks.turns --peer bentoml

`benchmarks.serving` measures servers one after the other, and a shared machine changes meanwhile by
more than such servers differ. Here both are up at once and take turns of a few seconds: first in a
closed loop, then in an open one at a load that both carry. What counts is the ratio of a round.
Where a server's memory happens to lie moves its speed by a percent or two for as long as it runs,
so both are started again, in the other order, for further rounds.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks import bare, bundles
from benchmarks.comparison import Comparison, say
from benchmarks.images import jpegs
from benchmarks.load import Prepared, closed_loop, open_loop
from benchmarks.measure import Durations, Inputs
from benchmarks.records import OURS, Configuration, Records
from benchmarks.registry import PEERS
from benchmarks.report import RESULTS, Report
from benchmarks.samples import Run, Summary, summarise
from benchmarks.traffic import WORKLOADS, prepare

PICTURES = 64
LOAD = 0.6  # of the slower one's capacity
OUR_LAYOUTS = {"all": (1, 2), "zipf": (2, 1)}
PEER_LAYOUT = (1, 2)
"""Copies x threads in which ours, and Triton and MLServer, are fastest: ``benchmarks.serving``."""


@dataclass(frozen=True)
class Turns:
    """What one server did in its turns."""

    rows_per_s: list[float]  # closed loop, by round
    latencies_ms: list[float]  # open loop, of all rounds

    @property
    def p99_ms(self) -> float:
        return float(np.percentile(self.latencies_ms, 99))


def main(
    peer: Annotated[str, typer.Option(help=f"Of: {', '.join(PEERS)}.")] = "triton",
    seconds: Annotated[float, typer.Option(help="Of each turn.")] = 5.0,
    starts: Annotated[int, typer.Option(help="How often both are started.")] = 4,
    rounds: Annotated[int, typer.Option(help="From each start.")] = 2,
    image_size: int = 64,
    tasks: int = 40,
    keep: float = 0.4,
    routed_layers: str = "all",
    cache: Annotated[Path, typer.Option(help="Environments and scratch.")] = Path("build/peers"),
    out: Annotated[Path, typer.Option(help="Where results go.")] = RESULTS / "turns",
) -> None:
    """Measure both workloads, and write what each round gave."""
    if peer not in PEERS:
        raise typer.BadParameter(f"{peer!r} is none of {', '.join(PEERS)}")
    spec = bundles.BundleSpec(tasks, keep, image_size, routed_layers)
    comparison = _comparison(spec, cache, out, seconds)
    found = {
        workload: {OURS: Turns([], []), peer: Turns([], [])} for workload in comparison.workloads
    }
    for start in range(starts):
        order = (OURS, peer) if start % 2 == 0 else (peer, OURS)
        for workload, turns in found.items():
            _take_turns(comparison, workload, order, seconds, rounds, turns)
    _write(out, spec, peer, found, seconds, starts)


def _comparison(spec: bundles.BundleSpec, cache: Path, out: Path, seconds: float) -> Comparison:
    repository, source_size = bundles.ensure(spec), 2 * spec.image_size
    return Comparison(
        spec=spec,
        repository=repository,
        inputs=Inputs(
            jpegs(PICTURES, source_size, source_size),
            spec.task_names,
            bare.reference(repository, spec, 1, source_size),
        ),
        workloads=tuple(OUR_LAYOUTS),
        durations=Durations(seconds, seconds, max_s=120.0),
        cache=cache,
        records=Records(out / "records", {}, fresh=True),
    )


def _take_turns(
    comparison: Comparison,
    workload: str,
    peers: Sequence[str],
    seconds: float,
    rounds: int,
    found: dict[str, Turns],
) -> None:
    """Start both, and add to what was ``found``."""
    kind = WORKLOADS[workload]
    with ExitStack() as stack:
        asked = {name: _started(comparison, workload, name, stack) for name in peers}
        for number in range(rounds + 1):
            for name in peers:
                run = asyncio.run(closed_loop(*asked[name], kind.clients, seconds))
                rate = _answered(name, run).rows_per_s
                if number:  # the first is a warm-up
                    found[name].rows_per_s.append(rate)
                    say(f"{workload}: {name} {rate:.0f} rows/s")
        slower = min(statistics.median(one.rows_per_s) for one in found.values())
        rows = statistics.mean(one.rows for one in asked[OURS][1])
        for _ in range(rounds):
            for name in peers:
                run = asyncio.run(open_loop(*asked[name], LOAD * slower / rows, seconds))
                _answered(name, run)
                found[name].latencies_ms.extend(
                    (sample.done - sample.intended) * 1000 for sample in run.samples
                )


def _started(
    comparison: Comparison, workload: str, name: str, stack: ExitStack
) -> tuple[int, list[Prepared]]:
    """A server's port and what it is asked; it runs until the stack is closed."""
    workers, threads = OUR_LAYOUTS[workload] if name == OURS else PEER_LAYOUT
    one = Configuration(name, "subnet", workers, threads)
    server, _ = stack.enter_context(comparison.started(one))
    inputs = comparison.inputs
    asked = prepare(PEERS[name], WORKLOADS[workload], server.port, inputs.images, inputs.tasks)
    return server.port, asked


def _answered(name: str, run: Run) -> Summary:
    """The run's figures, if every request was answered."""
    summary = summarise(run)
    if summary.errors or summary.shed:
        raise SystemExit(f"{name}: errors {summary.errors}, {summary.shed} refused")
    return summary


def _write(
    out: Path,
    spec: bundles.BundleSpec,
    peer: str,
    found: dict[str, dict[str, Turns]],
    seconds: float,
    starts: int,
) -> None:
    report = Report(out, f"In turns with {peer}: {spec.model}")
    table, results = [], {}
    for workload, turns in found.items():
        ours, other = turns[OURS], turns[peer]
        ratios = [a / b for a, b in zip(ours.rows_per_s, other.rows_per_s, strict=True)]
        table.append([
            workload, *("x".join(map(str, one)) for one in (OUR_LAYOUTS[workload], PEER_LAYOUT)),
            statistics.median(ours.rows_per_s), statistics.median(other.rows_per_s),
            statistics.median(ratios), f"{min(ratios):.2f} to {max(ratios):.2f}",
            ours.p99_ms, other.p99_ms,
        ])  # fmt: skip
        results[workload] = {
            "ratios": ratios,
            **{name: {"rows_per_s": one.rows_per_s, "p99_ms": one.p99_ms,
                      "latencies_ms": one.latencies_ms} for name, one in turns.items()},
        }  # fmt: skip
    report.table(
        ["workload", "ours, copies x threads", f"{peer}, copies x threads", "ours, rows/s",
         f"{peer}, rows/s", "ours is x times", "by round", "ours, p99 ms", f"{peer}, p99 ms"],
        table,
    )  # fmt: skip
    report.text(
        f"Both serve the same subnets and are up at once; turns of {seconds:g} s; started {starts} "
        "times, each in turn first. Rows per second in a closed loop (`all`: every task of a "
        f"picture; `zipf`: one); p99 in an open loop, at {LOAD:g} of the slower one's capacity."
    )
    report.write(
        {"bundle": spec.model, "peer": peer, "seconds": seconds, "starts": starts,
         "workloads": results}
    )  # fmt: skip
    say(f"results: {out}/README.md")


if __name__ == "__main__":
    typer.run(main)
