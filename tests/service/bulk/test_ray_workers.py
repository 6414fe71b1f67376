"""What an actor does, without Ray; with it: tests/service/test_bulk_process.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bulk.errors import BulkUsageError
from service.bulk.inputs import Part, parts
from service.bulk.journal import Counts, Journal, Plan
from service.bulk.part_scorer import BulkOptions, load_model
from service.bulk.ray_workers import RayPartScorer, score_with_ray
from service.core.run_options import RunOptions
from tests.service.bulk.photos import contents, write_folder
from tests.service.bulk.test_job import lines


@pytest.fixture
def options(repository: Path) -> BulkOptions:
    return BulkOptions(str(repository), RunOptions(strategy="subnet", workers=1))


@pytest.fixture
def plan(options: BulkOptions, tmp_path: Path) -> Plan:
    """Of seven photos in two parts, begun in tmp_path/out."""
    model = load_model("small", None, options)
    plan = Plan(
        input=str(write_folder(tmp_path / "photos", contents(7))),
        tasks=("shoe",),
        model="small",
        version=1,
        digest=model.digest,
        format="jsonl",
        images_per_part=4,
        batch_images=4,
    )
    journal = Journal(tmp_path / "out")
    with journal.locked():
        return journal.begin(plan, parts(plan.input, plan.images_per_part))


def rows(found: list[Part]) -> dict[str, np.ndarray[Any, Any]]:
    return {"part": np.array([part.model_dump_json() for part in found], object)}


def test_an_actor_writes_parts_and_returns_counts(
    plan: Plan, options: BulkOptions, tmp_path: Path
) -> None:
    found = list(parts(plan.input, plan.images_per_part))
    done = RayPartScorer(str(tmp_path / "out"), plan.model_dump_json(), options)(rows(found))
    assert (done["index"], done["error"]) == ([0, 1], ["", ""])
    counts = [Counts.model_validate_json(text) for text in done["counts"]]
    assert [(one.images, one.failed) for one in counts] == [(4, 1), (3, 1)]
    assert [one["image"] for one in lines(tmp_path / "out")] == [f"0000{i}.png" for i in range(7)]


def test_an_actor_returns_its_error_as_text(
    plan: Plan, options: BulkOptions, tmp_path: Path
) -> None:
    other = plan.model_copy(update={"digest": "sha256:other"})
    found = list(parts(plan.input, plan.images_per_part))
    done = RayPartScorer(str(tmp_path / "out"), other.model_dump_json(), options)(rows(found[:1]))
    assert done["index"] == [0]
    assert "the job began with sha256:other" in done["error"][0]
    assert not lines(tmp_path / "out")


def test_without_ray_it_says_what_to_install(
    plan: Plan, options: BulkOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BulkUsageError, match="install the extra ray"):
        list(score_with_ray(tmp_path / "out", plan, options, [Part(index=0)], 2, ""))
    assert not list(score_with_ray(tmp_path / "out", plan, options, [], 2, ""))
