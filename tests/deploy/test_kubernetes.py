"""The manifests against Kubernetes' schemas and against the application they start."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.core import TyperGroup
from typer.main import get_command

from deploy import generate
from service import server
from service.key_file import read_keys
from service.settings import PREFIX, Settings
from tests.deploy.manifests import (
    COMPONENTS,
    KUBERNETES,
    OVERLAYS,
    Object,
    all_written,
    containers,
    overlay,
    pod_specs,
    render,
    tool,
    written,
)
from tests.deploy.metric_names import exported
from tests.service.http.apps import make_app
from training.cli import app as training_commands
from training.errors import EXIT_REFUSED, EXIT_USAGE

VERSIONS = ("1.31", "1.37")
# Custom resources: no schema in Kubernetes itself.
CUSTOM = {"ServiceMonitor", "PrometheusRule", "ScaledObject", "InferenceService"}
REFRESH = "overlays/refresh/cronjob.yaml"
MULTI_NODE = "overlays/multi-node-training/job.yaml"
FIRST_MODEL = "overlays/first-model/job.yaml"
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def service_container() -> Object:
    [found] = containers(written("base/deployment.yaml"))
    return found


def settings_in_force() -> Settings:
    lines = generate.SETTINGS_FILE.read_text().splitlines()
    pairs = [line.split("=", 1) for line in lines if line and not line.startswith("#")]
    given: dict[str, Any] = {name.removeprefix(PREFIX).lower(): value for name, value in pairs}
    return Settings(**given)


def size(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(\D*)", text).groups()  # type: ignore[union-attr]
    return int(number) * UNITS.get(unit, 1)


def test_the_generated_files_are_those_that_would_be_generated() -> None:
    for path, text in (
        (generate.SETTINGS_FILE, generate.settings_env()),
        (generate.PROMETHEUS_RULE_FILE, generate.prometheus_rule()),
    ):
        assert path.read_text() == text, f"run `python -m deploy.generate`: {path.name} is old"


def test_the_configuration_names_every_setting_and_gives_what_the_service_would_take() -> None:
    names = re.findall(rf"^#? ?{PREFIX}(\w+)=", generate.SETTINGS_FILE.read_text(), re.MULTILINE)
    assert [name.lower() for name in names] == list(Settings.model_fields)
    assert generate.CONTAINER.keys() <= Settings.model_fields.keys()
    given = settings_in_force()
    for name, field in Settings.model_fields.items():
        if name not in generate.CONTAINER:
            assert getattr(given, name) == field.default, name


@pytest.mark.parametrize("name", [*OVERLAYS, *COMPONENTS])
def test_an_overlay_is_valid_and_what_it_refers_to_is_there(name: str, tmp_path: Path) -> None:
    text = render(overlay(name, tmp_path))
    objects = list(yaml.safe_load_all(text))
    for version in VERSIONS:
        done = subprocess.run(
            [tool("kubernetes-validate"), "--strict", "-k", version, "-"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        report = done.stdout + done.stderr
        assert done.returncode == 0, report
        assert set(re.findall(r"Couldn't find schema for kind (\w+)", report)) <= CUSTOM, report
        known = [one for one in objects if one["kind"] not in CUSTOM]
        assert report.count("passed for resource") == len(known), report
    names = {(one["kind"], one["metadata"]["name"]) for one in objects}
    for kind, referred in re.findall(r"(configMap|secret)Ref:\n\s+name: (\S+)", text):
        assert (kind[0].upper() + kind[1:].replace("map", "Map"), referred) in names
    # The volume of bundles is claimed by `shared`; data is the user's own.
    assert set(re.findall(r"claimName: (\S+)", text)) <= {"taskroute-models", "taskroute-data"}
    for container in containers(objects):
        assert re.fullmatch(r"taskroute-(service|training):[\w.-]+", container["image"])


def test_the_overlay_that_the_documentation_begins_with_can_be_applied(tmp_path: Path) -> None:
    document = (KUBERNETES.parents[1] / "docs/deployment.md").read_text()
    [example] = re.findall(r"```yaml\n(# mine/kustomization\.yaml\n.*?)```", document, re.DOTALL)
    there = os.path.relpath(KUBERNETES, tmp_path)
    (tmp_path / "kustomization.yaml").write_text(example.replace("../deploy/kubernetes", there))
    objects = list(yaml.safe_load_all(render(tmp_path)))
    images = {one["image"] for one in containers(objects)}
    names = ("service", "training")
    assert images == {f"registry.example.com/taskroute-{name}:0.1.0" for name in names}
    [settings] = [one["data"] for one in objects if "TASKROUTE_MODEL" in one.get("data", {})]
    [first] = [one for one in objects if one["kind"] == "Job"]
    assert f"--name={settings['TASKROUTE_MODEL']}" in next(containers(first))["args"]
    assert settings["TASKROUTE_API_KEYS_FILE"]


def test_selectors_find_the_pods_and_nothing_else() -> None:
    deployment = written("base/deployment.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert written("base/service.yaml")["spec"]["selector"] == labels
    assert written("base/pdb.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert written("base/networkpolicy.yaml")["spec"]["podSelector"]["matchLabels"] == labels
    monitor = yaml.safe_load((KUBERNETES.parent / "monitoring/servicemonitor.yaml").read_text())
    service = written("base/service.yaml")["metadata"]
    assert monitor["spec"]["selector"]["matchLabels"] == service["labels"]
    assert service["name"] == "taskroute", "the job that rules and dashboard ask for"
    for constraint in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]:
        assert constraint["labelSelector"]["matchLabels"] == labels
    job = written("overlays/multi-node-training/job.yaml")["spec"]["template"]
    headless = written("overlays/multi-node-training/rendezvous.yaml")
    policy = written("overlays/multi-node-training/networkpolicy.yaml")["spec"]
    wanted = headless["spec"]["selector"]
    assert wanted.items() <= job["metadata"]["labels"].items()
    assert policy["podSelector"]["matchLabels"] == wanted
    assert policy["ingress"][0]["from"][0]["podSelector"]["matchLabels"] == wanted
    assert not wanted.items() <= labels.items()


def test_scaling_and_patches_name_the_deployment() -> None:
    name = written("base/deployment.yaml")["metadata"]["name"]
    for path, found in all_written():
        target = found.get("spec", {}).get("scaleTargetRef")
        if target:
            assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}, path
    assert written("overlays/gpu/deployment.yaml")["metadata"]["name"] == name


def test_ports_and_probes_are_those_of_the_application() -> None:
    paths = make_app().openapi()["paths"]
    port = settings_in_force().port
    probed = 0
    for path, found in all_written():
        for container in containers(found):
            names = {one["name"]: one["containerPort"] for one in container.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if probe in container:
                    probed += 1
                    asked = container[probe]["httpGet"]
                    assert asked["path"] in paths, (path, probe)
                    assert names.get(asked["port"], asked["port"]) == port, (path, probe)
    assert probed == 6
    assert written("base/service.yaml")["spec"]["ports"][0]["targetPort"] == "http"
    assert service_container()["ports"] == [{"name": "http", "containerPort": port}]
    assert written("base/networkpolicy.yaml")["spec"]["ingress"][0]["ports"][0]["port"] == "http"
    dockerfile = (KUBERNETES.parents[1] / "Dockerfile").read_text()
    assert f"EXPOSE {port}\n" in dockerfile
    assert f"TASKROUTE_PORT={port}" in dockerfile
    monitor = yaml.safe_load((KUBERNETES.parent / "monitoring/servicemonitor.yaml").read_text())
    [endpoint] = monitor["spec"]["endpoints"]
    assert endpoint["path"] in paths
    assert endpoint["port"] == written("base/service.yaml")["spec"]["ports"][0]["name"]


def test_grpc_has_its_port_everywhere_beside_that_of_http(tmp_path: Path) -> None:
    objects = list(yaml.safe_load_all(render(overlay("grpc", tmp_path))))
    [settings] = [one["data"] for one in objects if "TASKROUTE_MODEL" in one.get("data", {})]
    port = int(settings["TASKROUTE_GRPC_PORT"])
    found = {one["kind"]: one for one in objects}
    [container] = containers(found["Deployment"])
    assert {one["name"]: one["containerPort"] for one in container["ports"]} == {
        "http": settings_in_force().port,
        "grpc": port,
    }
    targets = {one["name"]: one["targetPort"] for one in found["Service"]["spec"]["ports"]}
    assert targets == {"http": "http", "grpc": "grpc"}
    [ingress] = found["NetworkPolicy"]["spec"]["ingress"]
    assert [one["port"] for one in ingress["ports"]] == ["http", "grpc"]


def test_a_pod_has_the_time_to_drain() -> None:
    # A container's own limits would cut it off: sleep, last requests, drain, last answers.
    needed = settings_in_force().drain_timeout_ms / 1000 + server._LINGER_S + server._GRACE_S
    for path in ("base/deployment.yaml", "overlays/kserve/inferenceservice.yaml"):
        for pod in pod_specs(written(path)):
            [container] = pod["containers"]
            [program, seconds] = container["lifecycle"]["preStop"]["exec"]["command"]
            assert program == "sleep"
            assert pod["terminationGracePeriodSeconds"] > int(seconds) + needed, path


def test_memory_holds_what_the_settings_allow_to_be_held() -> None:
    given = settings_in_force()
    weights_and_libraries = 2**30
    needed = weights_and_libraries + sum(
        (given.subnet_budget_bytes, given.max_queue_bytes, given.max_inflight_body_bytes)
    )
    kserve = next(containers(written("overlays/kserve/inferenceservice.yaml")))
    for container in (service_container(), kserve):
        assert size(container["resources"]["limits"]["memory"]) >= needed
    compose = yaml.safe_load((KUBERNETES.parents[1] / "docker-compose.yml").read_text())
    service = compose["services"]["service"]
    assert [KUBERNETES.parents[1] / one for one in service["env_file"]] == [generate.SETTINGS_FILE]
    assert size(service["mem_limit"].replace("g", "Gi")) >= needed


def test_processors_are_limited_so_that_threads_can_follow() -> None:
    for path, found in all_written():
        for container in containers(found):
            limits = container.get("resources", {}).get("limits", {})
            assert "cpu" in limits, path
            assert "memory" in limits, path


def test_every_container_is_restricted() -> None:
    for path, found in all_written():
        if path.parts[:2] == ("overlays", "gpu"):  # a patch of the base's
            continue
        for pod in pod_specs(found):
            assert pod["automountServiceAccountToken"] is False, path
            assert pod["securityContext"]["runAsNonRoot"] is True, path
            assert pod["securityContext"]["runAsUser"] == 10001, path
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, path
            for container in pod["containers"]:
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }, path
    assert "USER 10001:10001" in (KUBERNETES.parents[1] / "Dockerfile").read_text()


def test_metrics_to_scale_by_are_exported() -> None:
    text = "\n".join(path.read_text() for path in (KUBERNETES / "overlays").rglob("*.yaml"))
    names = set(re.findall(r"(?:name: |\()(taskroute_\w+)", text))
    assert names == {"taskroute_queue_rows"}
    assert names <= exported().keys()


def test_kserve_asks_by_the_name_that_is_served() -> None:
    found = written("overlays/kserve/inferenceservice.yaml")
    assert found["metadata"]["name"] == settings_in_force().model
    timeout = found["spec"]["predictor"]["timeout"]
    assert timeout * 1000 > settings_in_force().max_request_timeout_ms


@pytest.mark.parametrize("path", [MULTI_NODE])
def test_the_job_counts_its_machines_once(path: str) -> None:
    spec = written(path)["spec"]
    [container] = spec["template"]["spec"]["containers"]
    arguments = dict(
        argument.removeprefix("--").split("=", 1)
        for argument in container["args"]
        if argument.startswith("--") and "=" in argument
    )
    assert int(arguments["nnodes"]) == spec["parallelism"] == spec["completions"]
    name, _, domain = arguments["master-addr"].partition(".")
    assert name == f"{written(path)['metadata']['name']}-0"
    headless = written("overlays/multi-node-training/rendezvous.yaml")
    assert domain == headless["metadata"]["name"] == spec["template"]["spec"]["subdomain"]
    [port] = [one["containerPort"] for one in container["ports"]]
    assert int(arguments["master-port"]) == port == headless["spec"]["ports"][0]["port"]
    assert container["env"][0]["name"] == "NODE_RANK"
    assert arguments["node-rank"] == "$(NODE_RANK)"


def training_arguments(container: Object) -> list[str]:
    arguments: list[str] = container["args"]
    return arguments[arguments.index("training") + 1 :] if "training" in arguments else arguments


@pytest.mark.parametrize(
    ("path", "command"),
    [(MULTI_NODE, "train"), (FIRST_MODEL, "train"), (REFRESH, "refresh")],
    ids=["multi-node", "first model", "refresh"],
)
def test_a_command_line_is_one_that_training_takes(path: str, command: str) -> None:
    [container] = containers(written(path))
    named, *options = training_arguments(container)
    assert named == command
    program = get_command(training_commands)
    assert isinstance(program, TyperGroup)
    context = program.commands[command].make_context(named, options)  # raises at one unknown
    # The pod that takes over from a lost one must not stop at what that left behind.
    assert context.params.get("resume_or_start") or context.params["resume"]


def test_a_refusal_of_the_gate_is_not_tried_again() -> None:
    spec = written(REFRESH)["spec"]
    rule = spec["jobTemplate"]["spec"]["podFailurePolicy"]["rules"][0]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"]["values"] == [EXIT_USAGE, EXIT_REFUSED]
    [container] = containers(spec)
    assert rule["onExitCodes"]["containerName"] == container["name"]
    assert spec["concurrencyPolicy"] == "Forbid"


def test_keys_that_come_with_the_component_let_nobody_in() -> None:
    assert read_keys(KUBERNETES / "components/api-keys/keys.json") == []
