"""What an actor does, without Ray; with it: tests/service/test_bulk_process.py."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from service.bulk.errors import BulkError, BulkUsageError
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


class FakeRay(ModuleType):
    """As much of Ray as a job uses, in this process."""

    def __init__(self, fails: bool) -> None:
        super().__init__("ray")
        self._fails = fails
        self.exceptions = SimpleNamespace(RayError=RuntimeError)
        self.asked: dict[str, Any] = {}
        self.connected = False
        self.data = ModuleType("ray.data")
        self.data.__dict__.update(
            DataContext=SimpleNamespace(get_current=SimpleNamespace),
            ActorPoolStrategy=dict,
            from_items=self._from_items,
        )

    def init(self, **options: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Ray takes it for itself, too
        self.connected = True

    def shutdown(self) -> None:
        self.connected = False

    def _from_items(self, items: list[dict[str, str]], override_num_blocks: int) -> FakeRay:
        self._items = items
        return self

    def map_batches(self, actor: Any, *, fn_constructor_args: Any, **asked: Any) -> FakeRay:
        self.asked = asked
        self._actor = actor(*fn_constructor_args)
        return self

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        if self._fails:
            raise RuntimeError("a page of frames\nThe actor died\n")
        for item in self._items:
            done = self._actor({name: np.array([value], object) for name, value in item.items()})
            yield {name: values[0] for name, values in done.items()}


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeRay]:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")

    def connect(*, fails: bool = False) -> FakeRay:
        ray = FakeRay(fails)
        monkeypatch.setitem(sys.modules, "ray", ray)
        monkeypatch.setitem(sys.modules, "ray.data", ray.data)
        return ray

    return connect


def test_actors_have_a_thread_each_where_it_is_left_open_and_sigterm_stays_ours(
    plan: Plan, repository: Path, tmp_path: Path, connect: Callable[..., FakeRay]
) -> None:
    ray, before = connect(), signal.getsignal(signal.SIGTERM)
    options = BulkOptions(str(repository), RunOptions(strategy="subnet", workers=0))
    found = list(parts(plan.input, plan.images_per_part))
    scored = score_with_ray(tmp_path / "out", plan, options, found, 3, "")
    assert next(scored)[0] == 0
    assert (ray.connected, signal.getsignal(signal.SIGTERM)) == (True, before)
    assert [index for index, _ in scored] == [1]
    assert not ray.connected
    assert (ray.asked["num_cpus"], ray.asked["num_gpus"]) == (1, 0)
    assert ray.asked["compute"] == {"size": 2}  # no more than there are parts


def test_what_stops_an_actor_stops_the_job_in_one_line(
    plan: Plan, options: BulkOptions, tmp_path: Path, connect: Callable[..., FakeRay]
) -> None:
    found = list(parts(plan.input, plan.images_per_part))
    ray = connect(fails=True)
    with pytest.raises(BulkError, match=r"^stopped: The actor died \(Ray's log has the rest\)"):
        list(score_with_ray(tmp_path / "out", plan, options, found, 2, ""))
    assert not ray.connected
    other = plan.model_copy(update={"digest": "sha256:other"})
    connect()
    with pytest.raises(BulkError, match="the job began with sha256:other"):
        list(score_with_ray(tmp_path / "out", other, options, found, 2, ""))
