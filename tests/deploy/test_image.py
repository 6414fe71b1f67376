"""The images, built and run by a real engine: what a platform engineer would try first."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ROOT
from tests.deploy.docker_engine import Engine
from tests.deploy.images import SERVICE, TRAINING, WITHOUT_KERNELS, describe
from tests.service.pictures import picture

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(7200)]

GB = 10**9
READY_LIMIT_S = 600
TEMPORARY = ("--read-only", "--tmpfs", "/tmp")  # noqa: S108  # of the container
RESTRICTED = (*TEMPORARY, "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


@pytest.fixture(scope="module")
def models(docker: Engine) -> Iterator[str]:
    """A volume with a model, published by the training image under the same restrictions."""
    volume = f"models-{uuid.uuid4().hex[:8]}"
    docker.docker("volume", "create", volume)
    docker.docker(
        "run", "--rm", *RESTRICTED, "--network", "none", "--volume", f"{volume}:/models", TRAINING,
        "init", "--tasks", "20", "--keep", "0.4", "--arch", "vgg11_bn", "--image-size", "64",
        "--repository", "/models", "--name", "fashion", "--seed", "0",
        limit_s=300,
    )  # fmt: skip
    yield volume
    docker.attempt("volume", "rm", "--force", volume)


@contextlib.contextmanager
def container(docker: Engine, models: str, *options: str, image: str = SERVICE) -> Iterator[str]:
    """A running service; removed at the end."""
    name = docker.docker(
        "run", "--detach", *RESTRICTED, "--publish", "127.0.0.1::8000", "--volume",
        f"{models}:/models:ro", "--env", "TASKROUTE_MODEL=fashion",
        "--env", "TASKROUTE_REQUEST_TIMEOUT_MS=90000",  # the machine may be busy
        *options, image,
    )  # fmt: skip
    try:
        yield name
    finally:
        docker.attempt("rm", "--force", name)


def state(docker: Engine, name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(docker.docker("inspect", name))
    current: dict[str, Any] = found[0]["State"]
    return current


def wait_until_healthy(docker: Engine, name: str) -> None:
    until = time.monotonic() + READY_LIMIT_S
    while (now := state(docker, name))["Health"]["Status"] != "healthy":
        assert now["Running"], docker.attempt("logs", name).stderr[-3000:]
        assert time.monotonic() < until, now
        time.sleep(1)


def url_of(docker: Engine, name: str) -> str:
    return f"http://{docker.docker('port', name, '8000').splitlines()[0]}"


def direct_url(docker: Engine, name: str) -> str:
    """Of the container itself: the engine's port proxy accepts connections for nobody."""
    address = docker.docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", name)
    return f"http://{address}:8000"


def asked_inside(docker: Engine, name: str, path: str) -> dict[str, Any]:
    """GET ``path`` by the container's own Python."""
    fetch = (
        "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=9).read().decode())"
    )
    found: dict[str, Any] = json.loads(
        docker.docker("exec", name, "python", "-c", fetch, f"http://127.0.0.1:8000{path}")
    )
    return found


def expected_kernels() -> str:
    """What `kernels` says of kernels that were compiled, on this machine's processor."""
    level = torch.backends.cpu.get_cpu_capability()
    return f"compiled {level.lower()}" if level in ("AVX2", "AVX512") else "pytorch"


def log_lines(docker: Engine, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in docker.attempt("logs", name).stderr.splitlines()]


def asking(docker: Engine, url: str, clients: int, seconds: float) -> subprocess.Popen[bytes]:
    """Clients that ask without pause; see :mod:`tests.asking`."""
    command: Sequence[str | Path] = [
        sys.executable, ROOT / "tests/asking.py", url, str(clients), str(seconds),
    ]  # fmt: skip
    process = subprocess.Popen(
        docker.near(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(picture(seed=1))
    process.stdin.close()
    process.stdin = None
    return process


def told(process: subprocess.Popen[bytes]) -> dict[str, int]:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()
    statuses: dict[str, int] = json.loads(output)
    return statuses


@pytest.mark.parametrize("image", [SERVICE, TRAINING])
def test_an_image_is_small_and_holds_no_compiler_installer_or_cache(
    docker: Engine, image: str
) -> None:
    described = describe(docker, image)
    size = described["Size"]
    assert isinstance(size, int)
    assert size <= 1.5 * GB, f"{size / GB:.2f} GB"
    assert isinstance(described["Config"], dict)
    assert described["Config"]["User"] == "10001:10001"
    search = (
        "for tool in gcc g++ cc c++ make pip pip3 ld; do command -v $tool; done; "
        "ls -d /root/.cache /build /etc/pip.conf /opt/venv/lib/python3*/site-packages/pip; true"
    )
    found = docker.attempt("run", "--rm", "--entrypoint", "/bin/sh", image, "-c", search)
    assert found.returncode == 0
    assert found.stdout == ""


def test_it_runs_restricted_becomes_healthy_and_answers(docker: Engine, models: str) -> None:
    with container(docker, models, "--memory", "1g") as name:
        wait_until_healthy(docker, name)
        assert told(asking(docker, url_of(docker, name), 4, 2.0)).keys() == {"200"}
        assert asked_inside(docker, name, "/v1/model")["kernels"] == expected_kernels()
        status = docker.docker("exec", name, "cat", "/proc/1/status")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert fields["Uid"].split() == ["10001"] * 4
        assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0
        assert fields["NoNewPrivs"] == "1"
        write = docker.attempt("exec", name, "sh", "-c", "echo x > /opt/venv/x")
        assert "Read-only file system" in write.stderr


def test_built_without_a_compiler_it_answers_with_the_operators_of_pytorch(
    docker: Engine, models: str
) -> None:
    with container(docker, models, image=WITHOUT_KERNELS) as name:
        wait_until_healthy(docker, name)
        assert told(asking(docker, url_of(docker, name), 1, 1.0)).keys() == {"200"}
        assert asked_inside(docker, name, "/v1/model")["kernels"] == "pytorch"


def test_a_stop_under_load_loses_no_answer_and_ends_with_code_0(
    docker: Engine, models: str
) -> None:
    with container(docker, models, "--memory", "1g") as name:
        wait_until_healthy(docker, name)
        clients = asking(docker, direct_url(docker, name), 16, 60.0)
        assert clients.stderr is not None
        assert clients.stderr.readline() == b"asking\n"
        time.sleep(3)  # well under load
        started = time.monotonic()
        docker.docker("stop", "--time", "30", name)
        took = time.monotonic() - started
        statuses = told(clients)
        assert statuses.pop("200") > 16
        assert statuses.keys() <= {"429", "503", "refused"}, statuses
        ended = state(docker, name)
        assert (ended["ExitCode"], ended["OOMKilled"]) == (0, False)
        assert took < 25, "the drain is the service's own, not the engine's patience"


def test_a_stop_while_it_starts_is_not_waited_out(docker: Engine, models: str) -> None:
    with container(docker, models) as name:
        time.sleep(1)  # Python has started and imports PyTorch
        started = time.monotonic()
        docker.docker("stop", "--time", "60", name)
        assert time.monotonic() - started < 30
        assert state(docker, name)["ExitCode"] == 0


def test_too_little_memory_kills_it_rather_than_making_it_hang(docker: Engine, models: str) -> None:
    limits = ("--memory", "100m", "--memory-swap", "100m")
    with container(docker, models, *limits) as name:
        until = time.monotonic() + 120
        while state(docker, name)["Running"]:
            assert time.monotonic() < until, "it neither runs nor ends"
            time.sleep(0.3)
        ended = state(docker, name)
        assert (ended["ExitCode"], ended["OOMKilled"]) == (137, True)


@pytest.mark.parametrize("cpus", ["0.5", "1"])
def test_threads_follow_the_quota(docker: Engine, models: str, cpus: str) -> None:
    with container(docker, models, "--cpus", cpus) as name:
        wait_until_healthy(docker, name)
        [threads] = [line for line in log_lines(docker, name) if line["message"] == "threads"]
        assert (threads["engine"], threads["cpus"]) == (1, 1)
        assert threads["cpus_from"].startswith("cgroup")
        assert threads["quota"] == float(cpus)


def test_without_a_model_it_says_what_is_missing_and_is_not_healthy(docker: Engine) -> None:
    done = docker.attempt("run", "--rm", *RESTRICTED, SERVICE)
    assert done.returncode == 2
    assert "--model (TASKROUTE_MODEL) is required" in done.stderr
