"""docker-compose.yml against the application; and started for real, by an engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import PREFIX, Settings
from tests.conftest import ROOT
from tests.deploy.docker_engine import Engine, program
from tests.deploy.images import SERVICE, TRAINING

COMPOSE = ROOT / "docker-compose.yml"
PROMETHEUS = "taskroute-prometheus:test"
_FETCH = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=9).read().decode())"
PORTS = {"SERVICE_PORT": "18000", "PROMETHEUS_PORT": "19090"}


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def test_every_variable_of_the_service_is_a_setting() -> None:
    settings = {PREFIX + name.upper() for name in Settings.model_fields}
    for name, service in services().items():
        given = service.get("environment", {})
        ours = {variable for variable in given if variable.startswith(PREFIX)}
        assert ours <= settings, name


def test_the_service_waits_for_the_trainer_and_is_given_time_to_drain() -> None:
    for name in ("service", "service-gpu"):
        service = services()[name]
        needed = {"trainer": {"condition": "service_completed_successfully"}}
        assert service["depends_on"] == needed
        drain_s = Settings.model_fields["drain_timeout_ms"].default / 1000
        assert float(service["stop_grace_period"].removesuffix("s")) > drain_s


def test_without_a_profile_there_is_one_of_everything() -> None:
    started = {name for name, service in services().items() if "profiles" not in service}
    assert started == {"trainer", "service", "prometheus", "grafana"}
    assert services()["service-gpu"]["profiles"] == ["gpu"]
    assert services()["train"]["profiles"] == ["train"]


def test_every_container_is_restricted_and_bound_to_this_machine() -> None:
    for name, service in services().items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name


def test_prometheus_scrapes_the_name_and_port_of_the_service() -> None:
    text = (ROOT / "deploy/monitoring/prometheus.yml").read_text()
    [job] = yaml.safe_load(text)["scrape_configs"]
    assert job["job_name"] == "taskroute"
    [found] = job["dns_sd_configs"]
    for name in ("service", "service-gpu"):
        assert services()[name]["networks"]["default"]["aliases"] == found["names"]
        assert services()[name]["ports"][0].endswith(f":{found['port']}")


@pytest.fixture(scope="module")
def prometheus_image(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image of the machine's own Prometheus, since its publisher's may not be in reach."""
    binary = program("prometheus")
    if binary is None:
        pytest.skip("no prometheus: run `make deploy-test`")
    context: Path = tmp_path_factory.mktemp("prometheus")
    (context / "prometheus").write_bytes(Path(binary).read_bytes())
    (context / "prometheus").chmod(0o755)
    (context / "Dockerfile").write_text(
        "FROM taskroute-base:test\n"
        "COPY prometheus /bin/prometheus\n"
        "RUN mkdir /prometheus && chown 65534:65534 /prometheus\n"
        'USER 65534:65534\nENTRYPOINT ["/bin/prometheus"]\n'
    )
    docker.docker("build", "--network", "none", "--tag", PROMETHEUS, context)
    return PROMETHEUS


@contextmanager
def composed(docker: Engine, prometheus: str) -> Iterator[Engine]:
    """The engine with the images and ports that docker-compose.yml is to use."""
    images = {
        "SERVICE_IMAGE": SERVICE,
        "TRAINING_IMAGE": TRAINING,
        "PROMETHEUS_IMAGE": prometheus,
        "COMPOSE_FILE": str(COMPOSE),
        "COMPOSE_PROJECT_NAME": "taskroute-test",
    }
    running = Engine(docker.environment | images | PORTS, docker.network_of)
    try:
        yield running
    finally:
        running.attempt("compose", "down", "--volumes", "--timeout", "30", limit_s=120)


def ask(engine: Engine, url: str) -> dict[str, Any]:
    """GET from where the ports are published."""
    done = subprocess.run(
        engine.near([sys.executable, "-c", _FETCH, url]),
        capture_output=True, text=True, check=True, timeout=60, env=os.environ,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_compose_up_trains_serves_and_is_scraped(docker: Engine, prometheus_image: str) -> None:
    if docker.attempt("compose", "version").returncode != 0:
        pytest.skip("no compose plugin: run `make deploy-test`")
    with composed(docker, prometheus_image) as engine:
        up = ("compose", "up", "--detach", "--no-build", "--wait")
        # Without Grafana, whose image is not to be had everywhere.
        engine.docker(*up, "service", "prometheus", limit_s=900)
        lines = engine.docker("compose", "ps", "--all", "--format", "json").splitlines()
        found = {state["Service"]: state for state in map(json.loads, lines)}
        assert found["trainer"]["State"] == "exited"
        assert found["trainer"]["ExitCode"] == 0
        assert found["service"]["Health"] == "healthy"
        model = ask(engine, f"http://127.0.0.1:{PORTS['SERVICE_PORT']}/v1/model")
        assert (model["name"], model["version"]) == ("fashion", 1)
        query = f"http://127.0.0.1:{PORTS['PROMETHEUS_PORT']}/api/v1/query?query="
        until = time.monotonic() + 180
        while not (series := ask(engine, query + "taskroute_model_info")["data"]["result"]):
            assert time.monotonic() < until, "Prometheus does not scrape the service"
            time.sleep(1)
        assert series[0]["metric"]["job"] == "taskroute"
        rules = ask(engine, query.replace("query?query=", "rules"))["data"]["groups"]
        assert len([rule for group in rules for rule in group["rules"]]) > 15

        # A second start trains nothing: the version is there.
        engine.docker("compose", "restart", "trainer", limit_s=120)
        assert ask(engine, f"http://127.0.0.1:{PORTS['SERVICE_PORT']}/v1/model")["version"] == 1
