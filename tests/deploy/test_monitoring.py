"""Rules and dashboard: what they ask for exists, and each alert is tested by promtool."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from grpc import StatusCode

from service.grpc import open_inference_pb2
from service.settings import Settings
from tests.conftest import ROOT
from tests.deploy.docker_engine import program
from tests.deploy.metric_names import asked, exported, process_series
from tests.service.http.apps import make_app

MONITORING = ROOT / "deploy/monitoring"
RULES = MONITORING / "rules.yml"
OTHERS = {"kube_job_status_failed"}  # of kube-state-metrics


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((MONITORING / "grafana/dashboard.json").read_text())
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """Every expression of the rules and of the dashboard."""
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    noted = [note["expr"] for note in dashboard()["annotations"]["list"]]
    return [rule["expr"] for rule in rules()] + shown + noted


def alert_cases() -> list[dict[str, Any]]:
    files = sorted(MONITORING.glob("rules*_test.yml"))
    tests = [test for file in files for test in yaml.safe_load(file.read_text())["tests"]]
    return [case for test in tests for case in test["alert_rule_test"]]


def promtool(*arguments: str | Path) -> str:
    found = program("promtool")
    if found is None:
        pytest.skip("no promtool: install Debian's prometheus, or run `make deploy-test`")
    done = subprocess.run(
        [found, *arguments], capture_output=True, text=True, check=False, timeout=250
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_series_that_is_asked_for_is_exported_with_those_labels() -> None:
    ours = exported() | {name: set() for name in process_series() | OTHERS}
    ours["kube_job_status_failed"] = {"job_name"}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for expression in expressions():
        for name, labels in asked(expression):
            if name not in recorded:
                assert name in ours, f"{name} in {expression}"
                assert labels <= ours[name], f"{name} has no {labels - ours[name]}: {expression}"


def test_the_reader_of_expressions_sees_names_and_labels() -> None:
    found = asked('sum(rate(taskroute_shed_total{job="x",reason=~"a|b"}[5m])) / task:taskroute_y:z')
    assert found == [("taskroute_shed_total", {"reason"}), ("task:taskroute_y:z", set())]


def test_every_route_in_an_expression_is_one_of_the_service() -> None:
    routes = make_app().openapi()["paths"]
    wanted = {
        pattern
        for expression in expressions()
        for pattern in re.findall(r'route=~"([^"]+)"', expression)
    }
    assert len(wanted) == 1, "everything counts the same requests"
    for pattern in wanted.pop().split("|"):
        assert [route for route in routes if re.fullmatch(pattern, route)], pattern


def test_every_call_in_an_expression_is_one_over_grpc() -> None:
    [service] = open_inference_pb2.DESCRIPTOR.services_by_name.values()
    text = "\n".join(expressions())
    assert set(re.findall(r'method="(\w+)"', text)) <= set(service.methods_by_name)
    [codes] = {frozenset(found.split("|")) for found in re.findall(r'code=~"([^"]+)"', text)}
    assert codes <= {status.name for status in StatusCode}


def test_every_alert_has_a_severity_a_summary_and_a_next_step() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
            assert len(rule["annotations"]["description"]) > 40, rule["alert"]
            assert rule["annotations"]["summary"]


def test_each_alert_has_a_test_that_it_fires_and_one_that_it_does_not() -> None:
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    fires = {case["alertname"] for case in alert_cases() if case.get("exp_alerts")}
    silent = {case["alertname"] for case in alert_cases() if not case.get("exp_alerts")}
    assert fires == alerts
    assert silent == alerts


def test_the_stall_alert_waits_as_long_as_the_liveness_probe() -> None:
    [stalled] = [rule for rule in rules() if rule.get("alert") == "TaskrouteEngineStalled"]
    assert (
        float(stalled["expr"].split(">")[1]) * 1000
        == Settings.model_fields["engine_stall_ms"].default
    )


def test_promtool_accepts_the_configuration_and_the_rules() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)
    promtool("check", "config", MONITORING / "prometheus.yml")


@pytest.mark.slow
def test_promtool_runs_the_tests_of_the_rules() -> None:
    files = sorted(MONITORING.glob("rules*_test.yml"))
    assert promtool("test", "rules", *files).count("SUCCESS") == len(files)


def test_panels_are_laid_out_without_overlap_and_explained() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        assert all(isinstance(place[key], int) for key in "xywh"), panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]


def test_grafana_is_pointed_at_the_dashboard_and_the_data_source_that_compose_mounts() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    mounts = dict(
        mount.removesuffix(":ro").split(":", 1)
        for mount in compose["services"]["grafana"]["volumes"]
        if mount.startswith("./")
    )
    assert all((ROOT / source).is_file() for source in mounts)
    provider = yaml.safe_load((MONITORING / "grafana/provider.yml").read_text())["providers"][0]
    shown = mounts["./deploy/monitoring/grafana/dashboard.json"]
    assert Path(shown).parent == Path(provider["options"]["path"])
    source = yaml.safe_load((MONITORING / "grafana/datasource.yml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose["services"]
