"""Totals by version: batches by their size, requests by how they ended."""

from __future__ import annotations

import pytest

from service.core.prediction import Timing
from service.core.statistics import MOST_VERSIONS, ModelStatistics
from service.core.telemetry import BatchReport
from tests.service.fakes import make_model


def test_versions_are_counted_apart_and_stay_in_order() -> None:
    statistics = ModelStatistics()
    second, first = make_model(version=2), make_model(version=1)
    statistics.request(second, 0.5, Timing(0.1, 0.2, 0.15))
    statistics.request(second, 0.25, None)
    assert statistics.of(first).last_request == 0.0
    assert [totals.version for totals in statistics.all()] == [1, 2]
    totals = statistics.of(second)
    assert (totals.success.count, totals.success.seconds) == (1, 0.5)
    assert (totals.failure.count, totals.failure.seconds) == (1, 0.25)
    spent = (totals.decode.seconds, totals.queue.seconds, totals.compute.seconds)
    assert spent == (0.1, 0.2, 0.15)
    assert totals.last_request > 1.7e9


def test_batches_are_counted_by_their_rows() -> None:
    statistics, model = ModelStatistics(), make_model()
    for rows in (4, 4, 16):
        report = BatchReport(model, "fake", "idle", rows, tasks=2, images=2)
        report.assemble_seconds, report.forward_seconds = 0.001 * rows, 0.01 * rows
        statistics.batch(report)
    totals = statistics.of(model)
    assert (totals.batches, totals.rows) == (3, 24)
    assert sorted(totals.by_size) == [4, 16]
    assert totals.by_size[4].forward.count == 2
    assert totals.by_size[4].forward.seconds == pytest.approx(0.08)
    assert totals.by_size[16].assemble.seconds == pytest.approx(0.016)


def test_of_versions_long_gone_nothing_is_kept() -> None:
    statistics, served = ModelStatistics(), make_model(version=1)
    for version in range(2, MOST_VERSIONS + 50):
        statistics.request(served, 0.1, None)
        statistics.request(make_model(version=version), 0.1, None)
    kept = [totals.version for totals in statistics.all()]
    assert kept == [1, *range(51, MOST_VERSIONS + 50)]
    assert statistics.of(served).failure.count == MOST_VERSIONS + 48
