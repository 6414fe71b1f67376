"""A real Prometheus scrapes a real service under load: every panel shows data, an alert comes and
goes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import ROOT
from tests.deploy.docker_engine import program
from tests.deploy.test_monitoring import RULES, dashboard, panels
from tests.service.pictures import picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LIMIT_S = 180


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def wait(condition: Callable[[], object], what: str) -> None:
    until = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.3)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False


@contextmanager
def started(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def service(repository: Path, port: int, log: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "service", "--repository", str(repository)]
    command += ["--model", "live", "--port", str(port), "--warmup-ms", "0"]
    with started(command, log):
        ready = f"http://127.0.0.1:{port}/v2/health/ready"
        wait(lambda: answers(ready), log.read_text()[-2000:])
        yield


@contextmanager
def prometheus(target: int, folder: Path) -> Iterator[str]:
    """Prometheus with our rules, in a hurry: scraped and evaluated every second, no `for`."""
    binary = program("prometheus")
    if binary is None:
        pytest.skip("no prometheus: install Debian's, or run `make deploy-test`")
    rules = yaml.safe_load(RULES.read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        if "for" in rule:
            rule["for"] = "1s"
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {
                "job_name": "taskroute",
                "static_configs": [{"targets": [f"127.0.0.1:{target}"]}],
            }
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    port = free_port()
    command = [binary, f"--config.file={folder}/prometheus.yml"]
    command += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
    url = f"http://127.0.0.1:{port}"
    with started(command, folder / "prometheus.log"):
        wait(lambda: answers(f"{url}/-/ready"), "Prometheus does not start")
        yield url


def query(url: str, expression: str) -> list[dict[str, Any]]:
    answer = httpx.get(f"{url}/api/v1/query", params={"query": expression}, timeout=30).json()
    assert answer["status"] == "success", (expression, answer)
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def firing(url: str) -> set[str]:
    alerts = httpx.get(f"{url}/api/v1/alerts", timeout=30).json()["data"]["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def test_every_panel_shows_data_and_an_alert_comes_and_goes(tmp_path: Path) -> None:
    repository, log, port = tmp_path / "models", tmp_path / "service.log", free_port()
    init = [sys.executable, "-m", "training", "init", "--tasks", "8", "--keep", "0.5", "--arch"]
    init += ["vgg11_bn", "--image-size", "32", "--repository", str(repository), "--name", "live"]
    subprocess.run([*init, "--seed", "0"], check=True, cwd=ROOT, capture_output=True)
    with prometheus(port, tmp_path) as url:
        with service(repository, port, log):
            clients = subprocess.Popen(
                [sys.executable, ROOT / "tests/asking.py", f"http://127.0.0.1:{port}", "4",
                 "25"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ,
            )  # fmt: skip
            output, _ = clients.communicate(picture(seed=1), timeout=120)
            assert json.loads(output).keys() == {"200"}
            empty = []
            for panel in panels():
                for target in panel["targets"]:
                    if "_grpc_" in target["expr"] and "_http_" not in target["expr"]:
                        continue  # nobody asks over gRPC here: no series; test_monitoring has them
                    expression = target["expr"].replace("$__rate_interval", "1m")
                    series = query(url, expression.replace("$instance", ".*"))
                    if not [one for one in series if one["value"][1] != "NaN"]:
                        empty.append((panel["title"], expression))
            assert not empty
            for note in dashboard()["annotations"]["list"]:
                query(url, note["expr"])
            assert "TaskrouteDown" not in firing(url)
        wait(lambda: "TaskrouteDown" in firing(url), "no alert although nothing answers")
        with service(repository, port, log):
            wait(
                lambda: "TaskrouteDown" not in firing(url),
                "the alert does not go",
            )
