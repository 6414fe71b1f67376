"""Metrics: every family declared once, children there from the start, only rows by task."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.core.prediction import Timing
from service.core.serving import ServingCore
from service.core.telemetry import BatchReport
from service.metrics import FAMILIES, Metrics
from service.metrics.rows import OUTCOMES
from tests.service.core.test_refresh import Shelf
from tests.service.core.test_serving import until
from tests.service.fakes import make_model
from tests.service.http.apps import make_app, running, send, services


def values(metrics: Metrics) -> dict[str, float]:
    """Every sample as ``name{label=value,...}``."""
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_names_follow_the_rules() -> None:
    for family in FAMILIES:
        assert re.fullmatch(r"[a-z][a-z_]*", family.name)
        assert (family.kind == "counter") == family.name.endswith("_total"), family.name
        assert (family.kind == "histogram") == bool(family.buckets), family.name
        assert not re.search(r"_(ms|mb|millis|percent)\b", family.name), "base units only"
        assert family.help.endswith("."), family.name
        assert ("task" in family.labels) == (family.name in ("rows_total", "answers_total"))
    assert not [name for name, count in Counter(f.name for f in FAMILIES).items() if count > 1]


def test_every_declared_family_is_exported_and_nothing_else_of_ours() -> None:
    text = send(make_app(), "GET", "/metrics").text
    exported = set(re.findall(r"^# TYPE taskroute_(\S+) ", text, re.MULTILINE))
    exported = {name for name in exported if not name.endswith("_created")}
    assert exported == {family.name for family in FAMILIES}
    assert "process_resident_memory_bytes" in text


def test_a_models_children_are_there_before_the_first_row() -> None:
    metrics = Metrics()
    model = make_model()
    metrics.model_loaded(model)
    found = values(metrics)
    for task in model.tasks:
        for outcome in OUTCOMES:
            labels = f"model=fashion,outcome={outcome},task={task.name}"
            assert found[f"taskroute_rows_total{{{labels}}}"] == 0.0


def test_every_version_in_memory_is_told_with_its_role_and_goes_with_it() -> None:
    async def scenario() -> None:
        shelf = Shelf()
        shelf.change = lambda model: object.__setattr__(model, "created_at", 1.7e9 + model.version)
        app = make_app(shelf, model="fashion@1,fashion@2", canary="fashion@3", keep_previous=False)
        async with running(app):
            found = services(app)
            models = found.core.models
            await until(lambda: len(models.default.serving()) == 3)
            for version in (1, 2, 3):
                found.metrics.answered(models.default.find(version), 0.1, Timing(0.1))
                found.core.scheduler.learn(models.default.find(version), 4, version * 1.0)

            def scraped() -> dict[str, float]:
                found.metrics.observe(found.core)
                return values(found.metrics)

            shown = scraped()
            roles = sorted(
                re.findall(r"role=(\w+),tasks=4,version=(\d)", name)[0]
                for name in shown
                if "model_info" in name
            )
            assert roles == [("beside", "2"), ("canary", "3"), ("stable", "1")]
            assert shown["taskroute_model_created_timestamp_seconds{model=fashion}"] == 1.7e9 + 1
            for version in (1, 2, 3):
                labels = f"model=fashion,plan=fake,version={version}"
                assert shown[f"taskroute_cost_per_row_seconds{{{labels}}}"] == version / 4
                labels = f"model=fashion,outcome=ok,version={version}"
                assert shown[f"taskroute_model_requests_total{{{labels}}}"] == 1
            await models.unload("fashion", 2)
            assert [name for name in scraped() if "version=2" in name], "its last requests"
            assert not [name for name in scraped() if "version=2" in name]

    asyncio.run(scenario())


def test_scrapers_that_come_together_are_answered_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        app = make_app()
        async with running(app) as client:
            metrics = services(app).metrics
            render, observe = metrics.render, metrics.observe
            read, observed = threading.Event(), []

            def slow_render() -> bytes:
                assert read.wait(20)
                return render()

            def watched_observe(core: ServingCore) -> None:
                observed.append(core)
                observe(core)

            monkeypatch.setattr(metrics, "render", slow_render)
            monkeypatch.setattr(metrics, "observe", watched_observe)
            asked = [asyncio.create_task(client.get("/metrics")) for _ in range(2)]
            for _ in range(50):
                await asyncio.sleep(0)
            assert len(observed) == 1  # the gauges that are being written down stay as they are
            read.set()
            assert [response.status_code for response in await asyncio.gather(*asked)] == [200, 200]

    asyncio.run(scenario())


def test_rows_are_counted_by_task_and_outcome() -> None:
    metrics, model = Metrics(), make_model()
    metrics.rows(model, np.array([0, 1, 1, 3]), "ok")
    metrics.rows(model, np.array([1]), "expired")
    metrics.rows(model, np.array([], np.int64), "shed")
    found = values(metrics)
    assert found["taskroute_rows_total{model=fashion,outcome=ok,task=t1}"] == 2
    assert found["taskroute_rows_total{model=fashion,outcome=ok,task=kind}"] == 1
    assert found["taskroute_rows_total{model=fashion,outcome=expired,task=t1}"] == 1
    assert sum(value for name, value in found.items() if "rows_total" in name) == 5


def test_answers_are_counted_for_questions_of_yes_or_no() -> None:
    metrics, model = Metrics(), make_model()
    metrics.answers(model, np.array([0, 1, 1, 1]), np.array([True, False, True, False]))
    found = values(metrics)
    assert found["taskroute_answers_total{answer=yes,model=fashion,task=t0}"] == 1
    assert found["taskroute_answers_total{answer=no,model=fashion,task=t0}"] == 0
    assert found["taskroute_answers_total{answer=no,model=fashion,task=t1}"] == 2
    assert not [name for name in found if "answers_total" in name and "kind" in name]


def test_versions_of_a_model_share_their_tasks_counters() -> None:
    metrics = Metrics()
    for version in (1, 2):
        metrics.rows(make_model(version=version), np.array([0]), "ok")
    assert values(metrics)["taskroute_rows_total{model=fashion,outcome=ok,task=t0}"] == 2


def test_tasks_of_equal_name_in_two_models_are_counted_apart() -> None:
    metrics = Metrics()
    for name, rows in (("fashion", [0]), ("birds", [0, 0])):
        metrics.rows(make_model(name=name), np.array(rows), "ok")
        metrics.answers(make_model(name=name), np.array(rows), np.ones(len(rows), bool))
    found = values(metrics)
    for name, count in (("fashion", 1), ("birds", 2)):
        assert found[f"taskroute_rows_total{{model={name},outcome=ok,task=t0}}"] == count
        assert found[f"taskroute_answers_total{{answer=yes,model={name},task=t0}}"] == count


def test_a_batch_is_counted_by_plan_and_release() -> None:
    metrics = Metrics()
    report = BatchReport(make_model(), "masked", "idle", rows=5, tasks=2, images=3, seconds=0.5)
    report.failures["oom"] += 2
    metrics.batch(report)
    found = values(metrics)
    assert found["taskroute_batches_total{plan=masked,release=idle}"] == 1
    assert found["taskroute_batch_rows_sum{plan=masked}"] == 5
    assert found["taskroute_batch_failures_total{kind=oom}"] == 2
    assert found["taskroute_worker_busy_seconds_total{}"] == pytest.approx(0.5)


def test_two_apps_share_nothing() -> None:
    first, second = Metrics(), Metrics()
    first.shed("draining")
    assert values(first)["taskroute_shed_total{reason=draining}"] == 1
    assert values(second)["taskroute_shed_total{reason=draining}"] == 0


def test_hundreds_of_tasks_stay_a_modest_scrape() -> None:
    metrics = Metrics()
    metrics.model_loaded(make_model(tasks=312))
    lines = metrics.render().decode().splitlines()
    created = [line for line in lines if "_created" in line]
    assert len(lines) - len(created) < 312 * (len(OUTCOMES) + 2) + 400
