"""The benchmark of bulk jobs measures what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.bulk import (
    BATCHES,
    ENGINE,
    ONE_BY_ONE,
    decode_bound,
    measure,
    run_engine,
    run_job,
    table,
    write_images,
    write_report,
)
from service.bulk.part_scorer import BulkOptions, load_model
from service.core.run_options import RunOptions
from tests.service.small_model import publish_small


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> BulkOptions:
    root = tmp_path_factory.mktemp("repository")
    publish_small(root)
    return BulkOptions(str(root), RunOptions(strategy="subnet", workers=1))


def test_engine_and_job_score_the_same_rows(options: BulkOptions, tmp_path: Path) -> None:
    model = load_model("small", None, options)
    photos = write_images(tmp_path / "photos", 5, edge=40)
    assert run_engine(model, torch.zeros(5, 28, 28, 3, dtype=torch.uint8), batch=2) == 60
    assert run_job(model, options, photos, "jsonl", batch=2) == 60


def test_every_way_is_timed_in_every_round_and_reported(
    options: BulkOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.bulk.scorer.MAX_BATCH_IMAGES", 2)
    model = load_model("small", None, options)
    result = measure(model, options, edge=40, images=8, rounds=2)
    assert result["images"] == BATCHES * result["batch"]
    ways = [ENGINE, ONE_BY_ONE, "job, parquet", "job, jsonl"]
    assert {way: len(costs) for way, costs in result["costs"].items()} == dict.fromkeys(ways, 2)
    assert table(result)[0][2] == table(result)[0][4] == 1.0
    write_report(tmp_path / "report", [result], threads=1)
    assert "| job, parquet |" in (tmp_path / "report/README.md").read_text()


def test_a_job_that_decodes_cannot_reach_the_engine() -> None:
    # 40 tasks at 4000 rows per CPU second are 10 ms an image; 2.5 ms of decoding beside it.
    cost = {"rows_per_s": 8000.0, "rows_per_cpu_s": 4000.0}
    result = {"tasks": 40, "decode_cpu_s_per_image": 0.0025, "costs": {ENGINE: [cost]}}
    assert decode_bound(result) == pytest.approx(0.8)
