"""TaskRoute's service against other servers, over HTTP, in one run on one machine.

    python -m benchmarks.serving --peers ours,fastapi,litserve --image-size 64 --tasks 40 --keep 0.4

Every server gets the same bundle, pictures, tasks, decoding and rendering code and the same number
of threads, and is measured alone. First what each can do at most (closed loop); then latency at
offered loads that are equal for all who can carry them (open loop). Interrupted or failed parts are
repeated by the same command; what was measured under the same settings with the same code is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import bare, bundles
from benchmarks.code_digest import code_digest
from benchmarks.comparison import (
    Comparison,
    measure_capacities,
    measure_engine,
    measure_latencies,
    measure_ours_again,
    say,
)
from benchmarks.images import jpegs
from benchmarks.measure import Durations, Inputs
from benchmarks.peers.base import Strategy
from benchmarks.records import OURS, Configuration, Records, best_layouts
from benchmarks.registry import PEERS
from benchmarks.serving_report import write_report
from benchmarks.traffic import WORKLOADS

PICTURES = 64
REFERENCE_PICTURES = 8


def main(
    peers: Annotated[str, typer.Option(help="Comma-separated names, in the order measured.")] = (
        "ours,fastapi,litserve,triton,torchserve,bentoml,ray,mlserver"
    ),
    subnet_peers: Annotated[
        str, typer.Option(help="Which of them also serve our subnets: names, or best:N.")
    ] = "best:2",
    image_size: Annotated[int, typer.Option(help="Edge of the network's input, pixels.")] = 64,
    source_size: Annotated[int, typer.Option(help="Edge of the JPEG files; 0: twice that.")] = 0,
    tasks: int = 40,
    keep: float = 0.4,
    routed_layers: str = "all",
    arch: str = "vgg11_bn",
    workloads: Annotated[str, typer.Option(help="Of: all, zipf.")] = "all,zipf",
    layouts: Annotated[
        str, typer.Option(help="WORKERSxTHREADS; each peer is judged by its best.")
    ] = "1x2,2x1",
    ours_layouts: Annotated[
        str, typer.Option(help="The same for ours: PROCESSESxTHREADS, on one port.")
    ] = "1x2,2x1",
    capacity_s: Annotated[float, typer.Option(help="Closed loop, seconds.")] = 30.0,
    latency_s: Annotated[
        float, typer.Option(help="Open loop, seconds; 0: capacities only.")
    ] = 60.0,
    cache: Annotated[Path, typer.Option(help="Environments and scratch.")] = Path("build/peers"),
    out: Annotated[Path, typer.Option(help="Where results go.")] = Path(
        "benchmarks/results/serving"
    ),
    fresh: Annotated[bool, typer.Option(help="Measure everything again.")] = False,
) -> None:
    """Compare servers; prints progress, writes JSON, a page with tables, and plots."""
    names = _known(peers.split(","), PEERS, "peer")
    chosen = tuple(_known(workloads.split(","), WORKLOADS, "workload"))
    spec = bundles.BundleSpec(tasks, keep, image_size, routed_layers, arch)
    source_size = source_size or 2 * image_size
    durations = Durations(capacity_s, latency_s, max_s=max(120.0, 4 * capacity_s, latency_s))
    repository = bundles.ensure(spec)
    say("right answers, by the masked network")
    comparison = Comparison(
        spec=spec,
        repository=repository,
        inputs=Inputs(
            jpegs(PICTURES, source_size, source_size),
            spec.task_names,
            bare.reference(repository, spec, REFERENCE_PICTURES, source_size),
        ),
        workloads=chosen,
        durations=durations,
        cache=cache,
        records=Records(
            out / "records",
            {
                "bundle": spec.model,
                "source_size": source_size,
                "durations": asdict(durations),
                "code": code_digest("model", "service"),
            },
            fresh,
        ),
    )
    engine = measure_engine(comparison, source_size)
    ours, others = _layouts(ours_layouts), _layouts(layouts)
    wanted = _configurations(names, "masked", ours, others)
    measured = measure_capacities(comparison, wanted)
    serving_subnets = _subnet_peers(subnet_peers, comparison, measured)
    wanted_too = _configurations(serving_subnets, "subnet", ours, others)
    measured += measure_capacities(comparison, wanted_too)
    measure_ours_again(comparison, measured)
    loads = measure_latencies(comparison, measured)
    skipped = {
        one.name: str(comparison.records.read(one.name).get("skipped"))
        for one in (*wanted, *wanted_too)
        if one not in measured
    }
    write_report(out, comparison.records, measured, engine, loads, skipped, spec.model)
    say(f"results: {out}/README.md")


def _configurations(
    names: Sequence[str],
    strategy: Strategy,
    ours: Sequence[tuple[int, int]],
    others: Sequence[tuple[int, int]],
) -> list[Configuration]:
    """Ours always serves subnets: that is the product; the others serve what is asked of them."""
    return [
        Configuration(name, "subnet" if name == OURS else strategy, workers, threads)
        for name in names
        for workers, threads in (ours if name == OURS else others)
    ]


def _subnet_peers(
    wanted: str, comparison: Comparison, measured: Sequence[Configuration]
) -> list[str]:
    """Names, or ``best:N``: the peers with the highest capacity in the first workload."""
    if not wanted.startswith("best:"):
        return _known([name for name in wanted.split(",") if name], PEERS, "peer")
    best = best_layouts(comparison.records, measured, comparison.workloads[0])
    others = [one.peer for one in sorted(best, key=best.__getitem__) if one.peer != OURS]
    return others[::-1][: int(wanted.removeprefix("best:"))]


def _layouts(text: str) -> list[tuple[int, int]]:
    """ "1x2,2x1" -> [(1, 2), (2, 1)]"""
    found = []
    for part in text.split(","):
        workers, cross, threads = part.partition("x")
        if not (cross and workers.isdigit() and threads.isdigit()):
            raise typer.BadParameter(f"{part!r} is not a layout such as 1x2 (WORKERSxTHREADS)")
        found.append((int(workers), int(threads)))
    return found


def _known(names: Sequence[str], among: dict[str, Any], what: str) -> list[str]:
    unknown = [name for name in names if name not in among]
    if unknown:
        raise typer.BadParameter(f"unknown {what} {unknown[0]!r}; there are {', '.join(among)}")
    return list(names)


if __name__ == "__main__":
    typer.run(main)
