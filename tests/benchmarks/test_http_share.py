"""The engine's speed and what of it arrives over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import http_share
from benchmarks.bundles import BundleSpec
from benchmarks.http_share import Round
from model.rows import RowBatch


def test_speed_counts_rows_of_whole_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 0.0, 0.5, 1.25])  # began, then before each of two batches, then the end
    monkeypatch.setattr("benchmarks.http_share.time.perf_counter", lambda: next(ticks))
    batch = RowBatch.all_pairs(torch.zeros(2, 4, 4, 3, dtype=torch.uint8), range(5))

    def forward(batch: RowBatch) -> torch.Tensor:
        return torch.zeros(len(batch), 1)

    speed = http_share._speed(forward, batch, seconds=1.0)

    assert speed == pytest.approx(2 * 10 / 1.25)


def test_the_report_gives_the_median_of_the_rounds_ratios(tmp_path: Path) -> None:
    spec = BundleSpec(40, 0.4, 64, "all")

    rounds = [Round(100.0, 95.0, 0.1), Round(200.0, 180.0, 0.0), Round(50.0, 49.0, None)]
    http_share._write(tmp_path, spec, rounds, 5.0, clients=16)

    assert json.loads((tmp_path / "result.json").read_text())["ratios"] == [0.95, 0.9, 0.98]
    assert "| median | 100 | 95 | 0.95 | 0.05 |" in (tmp_path / "README.md").read_text()
