"""The page of a comparison of servers: what each can do, how fast it answers, what was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.records import OURS, Configuration, Records, best_layouts
from benchmarks.report import Report

_ASKS = {
    "all": "every request asks all tasks of one picture",
    "zipf": "every request asks one task of one picture, tasks Zipf-distributed",
}


def write_report(
    out: Path,
    records: Records,
    measured: Sequence[Configuration],
    engine: Mapping[str, Any],
    loads: Mapping[str, Mapping[str, float]],
    skipped: Mapping[str, str],
    bundle: str,
) -> None:
    """Writes ``out`` from the records of ``measured``; ``skipped`` says why by configuration."""
    report = Report(out, f"Serving {bundle}")
    found = {one.name: records.read(one.name) for one in measured}
    judged = {}
    for workload in loads:
        best = best_layouts(records, measured, workload)
        judged[workload] = _judge(best, found, engine, workload)
        _capacity_section(report, workload, best, found, engine)
        _latency_section(report, workload, best, found, loads[workload])
        if _ours(best):
            _verdict_section(report, judged[workload])
    _layout_section(report, measured, found, list(loads))
    if skipped:
        report.section("Not measured")
        report.table(["configuration", "reason"], sorted(skipped.items()))
    data = {"bundle": bundle, "engine": engine, "loads": loads, "judged": judged, "records": found}
    report.write({**data, "skipped": dict(skipped)})


def engine_rows_per_s(engine: Mapping[str, Any], strategy: str, workload: str) -> float:
    """The engine at its best batch size and number of threads."""
    return float(max(engine[strategy][workload].values()))


def _capacity_section(
    report: Report,
    workload: str,
    best: Mapping[Configuration, float],
    found: Mapping[str, Any],
    engine: Mapping[str, Any],
) -> None:
    report.section(f"Capacity, workload {workload}")
    report.text(
        f"{_ASKS[workload].capitalize()}. Closed loop; each server in the best of its layouts "
        "(model copies x threads)."
    )
    ours = _ours(best)
    ordered = sorted(best.items(), key=lambda item: -item[1])
    rows = []
    for one, rows_per_s in ordered:
        record = found[one.name]
        part = record["capacity"][workload]
        rows.append(
            [
                *(one.peer, one.strategy, one.layout, rows_per_s),
                ours / rows_per_s if ours else None,
                *(part["summary"]["p50_ms"], part["rows_per_batch"]),
                *(part["memory"]["pss_mb"], record["ready_after_s"]),
                record["machine_speed_gflops"],
            ]
        )
    for strategy in engine:
        alone = engine_rows_per_s(engine, strategy, workload)
        ratio = ours / alone if ours else None
        rows.append(["(engine, no HTTP)", strategy, "best", alone, ratio, *[None] * 5])
    report.table(
        [
            *("server", "serves", "layout", "rows/s", "ours is x times", "p50 ms"),
            *("rows per batch", "memory MB", "ready after s", "machine GFLOP/s then"),
        ],
        rows,
    )
    for one in best:
        again = found[one.name].get("again", {}).get(workload)
        if again is not None:
            change = again["rows_per_s"] / best[one] - 1
            report.text(f"Drift: {one.peer} measured again at the end was {change:+.1%}.")
    values = {one.label: rows_per_s for one, rows_per_s in ordered}
    for strategy in engine:
        values[f"engine alone ({strategy})"] = engine_rows_per_s(engine, strategy, workload)
    report.bars(f"capacity-{workload}", f"Capacity, {workload}", "rows/s", values, OURS)


def _latency_section(
    report: Report,
    workload: str,
    best: Mapping[Configuration, float],
    found: Mapping[str, Any],
    loads: Mapping[str, float],
) -> None:
    for load, offered in loads.items():
        report.section(f"Latency, workload {workload}, load {load}: {offered:.3g} rows/s offered")
        rows = []
        for one in best:
            part = found[one.name].get("latency", {}).get(f"{workload}:{load}")
            if part is None:
                continue
            s = part["summary"]
            rows.append(
                [
                    *(one.peer, one.strategy, one.layout),
                    *(s["p50_ms"], s["p95_ms"], s["p99_ms"], s["requests"], s["shed"]),
                    *(sum(s["errors"].values()), s["send_delay_p99_ms"]),
                ]
            )
        rows.sort(key=lambda row: row[5] if row[5] is not None else float("inf"))
        report.text(
            "Open loop, Poisson arrivals; latency from the intended arrival. Servers whose "
            "capacity is below the load are left out."
        )
        report.table(
            [
                *("server", "serves", "layout", "p50 ms", "p95 ms", "p99 ms", "requests"),
                *("429", "errors", "generator's delay p99 ms"),
            ],
            rows,
        )
        values = {f"{row[0]} ({row[1]})": row[5] for row in rows if row[5] is not None}
        title = f"p99 at {offered:.3g} rows/s, {workload}"
        report.bars(f"p99-{workload}-{load}", title, "ms", values, OURS)


def _judge(
    best: Mapping[Configuration, float],
    found: Mapping[str, Any],
    engine: Mapping[str, Any],
    workload: str,
) -> dict[str, Any]:
    """Our ratios: to the engine alone, to each peer; p99 against peers that serve our subnets."""
    ours = _ours(best)
    masked = {one.peer: ours / v for one, v in best.items() if one.strategy == "masked"}
    subnet = {
        one.peer: ours / v
        for one, v in best.items()
        if one.strategy == "subnet" and one.peer != OURS
    }
    p99 = {
        one.peer: found[one.name]["latency"][f"{workload}:subnet"]["summary"]["p99_ms"]
        for one in best
        if one.strategy == "subnet" and f"{workload}:subnet" in found[one.name].get("latency", {})
    }
    return {
        "ours_to_engine": ours / engine_rows_per_s(engine, "subnet", workload),
        "ours_to_masked_peers": masked,
        "ours_to_subnet_peers": subnet,
        "p99_ms_at_equal_load": p99,
    }


def _verdict_section(report: Report, judged: Mapping[str, Any]) -> None:
    masked, subnet = judged["ours_to_masked_peers"], judged["ours_to_subnet_peers"]
    p99 = judged["p99_ms_at_equal_load"]
    rows: list[list[object]] = [
        ["ours / the engine's own rows/s", ">= 0.9", judged["ours_to_engine"]],
        *_smallest("ours / best peer serving the masked network", ">= 6", masked),
        *_smallest("ours / best peer serving our subnets", ">= 1", subnet),
    ]
    rivals = {name: value for name, value in p99.items() if name != OURS and value is not None}
    if rivals and p99.get(OURS) is not None:
        best = min(rivals, key=rivals.__getitem__)
        ratio = p99[OURS] / rivals[best]
        rows.append([f"p99, ours / {best} serving our subnets", "<= 1", ratio])
    report.table(["question", "aim", "measured"], rows)


def _smallest(what: str, aim: str, ratios: Mapping[str, float]) -> list[list[object]]:
    if not ratios:
        return []
    name = min(ratios, key=ratios.__getitem__)
    return [[f"{what} ({name})", aim, ratios[name]]]


def _layout_section(
    report: Report,
    measured: Sequence[Configuration],
    found: Mapping[str, Any],
    workloads: Sequence[str],
) -> None:
    report.section("Every layout measured")
    rows = []
    for one in measured:
        record = found[one.name]
        values = [record["capacity"][name]["rows_per_s"] for name in workloads]
        largest = max(
            record["capacity"][name]["answers"]["largest_difference"] for name in workloads
        )
        rows.append([one.name, *values, f"{largest:.1e}", record["measured_at"]])
    titles = [f"{name} rows/s" for name in workloads]
    report.table(["configuration", *titles, "largest difference to the reference", "at"], rows)


def _ours(best: Mapping[Configuration, float]) -> float:
    return max((value for one, value in best.items() if one.peer == OURS), default=0.0)
