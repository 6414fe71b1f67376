"""Records of a comparison, and the conclusions drawn from them."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks import comparison
from benchmarks.comparison import offered_loads
from benchmarks.records import Configuration, Records, best_layouts
from benchmarks.serving_report import write_report

OURS = Configuration("ours", "subnet", 1, 2)
SLOW = Configuration("litserve", "masked", 1, 2)
FAST = Configuration("litserve", "masked", 2, 1)
RIVAL = Configuration("litserve", "subnet", 2, 1)


def test_records_are_kept_for_equal_settings_only(tmp_path: Path) -> None:
    Records(tmp_path, {"seconds": 1}, fresh=False).update("a", capacity={"all": 1})
    same = Records(tmp_path, {"seconds": 1}, fresh=False)
    same.update("a", capacity={"zipf": 2}, note="x")
    assert same.read("a")["capacity"] == {"all": 1, "zipf": 2}
    assert same.read("a")["note"] == "x"
    assert Records(tmp_path, {"seconds": 2}, fresh=False).read("a") == {}
    assert same.read("b") == {}
    assert Records(tmp_path, {"seconds": 1}, fresh=True).read("a") == {}


def measured(rows_per_s: float, p99_ms: float = 5.0) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "p50_ms": 1.0,
        "p95_ms": 2.0,
        "p99_ms": p99_ms,
        "requests": 9,
        "shed": 0,
    }
    summary |= {"errors": {}, "send_delay_p99_ms": 0.1}
    part = {
        "rows_per_s": rows_per_s,
        "summary": summary,
        "rows_per_batch": 8.0,
        "memory": {"pss_mb": 500.0},
        "answers": {"largest_difference": 1e-7},
    }
    return {
        "capacity": {"all": part},
        "latency": {"all:subnet": {"offered_rows_per_s": 50.0, "summary": summary}},
        "ready_after_s": 3.0,
        "machine_speed_gflops": 80.0,
        "measured_at": "now",
    }


def records_of(folder: Path, **values: dict[str, Any]) -> Records:
    records = Records(folder, {}, fresh=True)
    for name, one in values.items():
        records.update(name.replace("_", "-"), **one)
    return records


def test_each_peer_is_judged_by_its_best_layout(tmp_path: Path) -> None:
    records = records_of(
        tmp_path, litserve_masked_1x2=measured(10.0), litserve_masked_2x1=measured(12.0)
    )
    assert best_layouts(records, [SLOW, FAST], "all") == {FAST: 12.0}


def test_loads_follow_from_the_capacities() -> None:
    loads = offered_loads({OURS: 100.0, FAST: 10.0, RIVAL: 90.0})
    assert loads == pytest.approx({"slowest": 6.0, "subnet": 54.0, "ours": 80.0})
    assert "subnet" not in offered_loads({OURS: 100.0, FAST: 10.0})


def test_the_page_of_a_comparison_holds_ratios_and_reasons(tmp_path: Path) -> None:
    records = records_of(
        tmp_path / "records",
        ours_subnet_1x2=measured(96.0, p99_ms=4.0),
        litserve_masked_2x1=measured(12.0),
        litserve_subnet_2x1=measured(80.0, p99_ms=8.0),
    )
    engine = {"masked": {"all": {"1": 9.0, "8": 11.0}}, "subnet": {"all": {"1": 80.0, "8": 100.0}}}
    write_report(
        tmp_path,
        records,
        [OURS, FAST, RIVAL],
        engine,
        {"all": {"subnet": 50.0}},
        {"ray-masked-1x2": "not installed"},
        "bundle",
    )
    judged = json.loads((tmp_path / "result.json").read_text())["judged"]["all"]
    assert judged["ours_to_engine"] == pytest.approx(0.96)
    assert judged["ours_to_masked_peers"] == {"litserve": 8.0}
    assert judged["ours_to_subnet_peers"] == {"litserve": 1.2}
    page = (tmp_path / "README.md").read_text()
    assert "| p99, ours / litserve serving our subnets | <= 1 | 0.5 |" in page
    assert "| ray-masked-1x2 | not installed |" in page


def test_our_second_capacity_leaves_what_stands_beside_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = Records(tmp_path, {}, fresh=True)
    ready, speeds = iter((1.0, 2.0)), iter((100.0, 200.0))
    stand_in = SimpleNamespace(
        records=records, inputs=None, durations=None,
        started=lambda one: nullcontext((SimpleNamespace(ready_after_s=next(ready)), None)),
    )  # fmt: skip
    found = {
        "rows_per_s": 5.0,
        "summary": {"errors": {}, "requests": 1},
        "answers": {"wrong": 0},
    }
    monkeypatch.setattr(comparison, "machine_speed_gflops", lambda: next(speeds))
    monkeypatch.setattr(comparison, "capacity", lambda *_: found)
    for key in ("capacity", "again"):
        comparison._try_capacities(cast("comparison.Comparison", stand_in), OURS, ["all"], key=key)
    record = records.read(OURS.name)
    assert record["capacity"] == record["again"] == {"all": found}
    assert (record["ready_after_s"], record["machine_speed_gflops"]) == (1.0, 100.0)
