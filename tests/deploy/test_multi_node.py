"""The Job's own command line, run by two containers that know each other by the Job's names."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deploy.docker_engine import Engine
from tests.deploy.images import TRAINING
from tests.deploy.manifests import containers, written
from tests.deploy.test_image import RESTRICTED, state

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(7200)]

LIMIT_S = 1800
# In place of the Job's data, and a state after every step.
SMALLER = ("--data=builtin:fashion", "--config=demo", "--epochs=1", "--checkpoint-interval-s=0.01")


@contextmanager
def pods(docker: Engine, network: str, volume: str) -> Iterator[list[str]]:
    """The Job's pods as containers; removed at the end."""
    job = written("overlays/multi-node-training/job.yaml")
    [container] = containers(job)
    given = [one for one in container["args"] if not one.startswith("--data=")]
    name, domain = job["metadata"]["name"], job["spec"]["template"]["spec"]["subdomain"]
    started: list[str] = []
    try:
        for rank in range(job["spec"]["completions"]):
            arguments = [one.replace("$(NODE_RANK)", str(rank)) for one in given]
            started.append(
                docker.docker(
                    "run", "--detach", *RESTRICTED, "--network", network, "--network-alias",
                    f"{name}-{rank}.{domain}", "--volume", f"{volume}:/models", "--entrypoint",
                    *container["command"], TRAINING, *arguments, *SMALLER,
                )
            )  # fmt: skip
        yield started
    finally:
        for one in started:
            docker.attempt("rm", "--force", one)


def exit_codes(docker: Engine, names: list[str]) -> list[int]:
    return [int(docker.docker("wait", name, limit_s=LIMIT_S)) for name in names]


def said(docker: Engine, name: str) -> str:
    done = docker.attempt("logs", name)
    return done.stdout + done.stderr


def wait_for_a_state(docker: Engine, names: list[str]) -> None:
    until = time.monotonic() + LIMIT_S
    file = Path("/models/fashion/.training/state.safetensors")
    while docker.attempt("exec", names[0], "test", "-e", file).returncode != 0:
        for name in names:
            assert state(docker, name)["Running"], said(docker, name)[-3000:]
        assert time.monotonic() < until, said(docker, names[0])[-3000:]
        time.sleep(2)  # to look in costs more than a training step


def test_two_machines_train_one_model_and_go_on_after_one_was_lost(docker: Engine) -> None:
    unique = uuid.uuid4().hex[:8]
    network, volume = f"training-{unique}", f"trained-{unique}"
    docker.docker("network", "create", network)
    docker.docker("volume", "create", volume)
    try:
        with pods(docker, network, volume) as names:
            wait_for_a_state(docker, names)
            docker.docker("kill", names[1])
            assert exit_codes(docker, names) == [1, 137], said(docker, names[0])[-3000:]
            assert "lost the others" in said(docker, names[0])
        with pods(docker, network, volume) as names:
            assert exit_codes(docker, names) == [0, 0], said(docker, names[0])[-3000:]
            assert "an interrupted run goes on" in said(docker, names[0])
            assert "published fashion version 1" in said(docker, names[0])
            assert "published" not in said(docker, names[1])
    finally:
        docker.attempt("network", "rm", network)
        docker.attempt("volume", "rm", "--force", volume)
