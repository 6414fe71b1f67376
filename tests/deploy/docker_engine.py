"""A Docker engine for tests: the machine's own where one answers, else one of our own.

Ours comes from ``deploy/test/prepare.sh``, found by the variable ``TASKROUTE_DEPLOY_CACHE``. It
lives in a mount namespace of its own, and for runs in a network namespace of its own, so that
nothing of the machine changes; ports that its containers publish are reached from in there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.conftest import ROOT

CACHE_VARIABLE = "TASKROUTE_DEPLOY_CACHE"
_START_LIMIT_S = 60
_STOP_LIMIT_S = 60


class NoEngineError(Exception):
    """Why there is no engine here."""


@dataclass(frozen=True)
class Engine:
    """A running engine."""

    environment: dict[str, str] = field(default_factory=dict)
    network_of: int | None = None  # the process in whose network ports are published

    def docker(self, *arguments: str | Path, limit_s: float = 120) -> str:
        """Run ``docker ...`` and return what it prints; AssertionError with its message if it
        fails.
        """
        done = self.attempt(*arguments, limit_s=limit_s)
        assert done.returncode == 0, f"docker {arguments[0]}: {done.stderr[-4000:]}"
        return done.stdout.strip()

    def attempt(
        self, *arguments: str | Path, limit_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run ``docker ...``, whatever comes of it."""
        return subprocess.run(
            ["docker", *map(str, arguments)],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )

    def near(self, command: Sequence[str | Path]) -> list[str]:
        """``command`` as it is run where published ports can be reached."""
        words = [str(word) for word in command]
        if self.network_of is None:
            return words
        return ["nsenter", "--target", str(self.network_of), "--net", *words]


def cache_folder() -> Path | None:
    """Where prepare.sh put things."""
    named = os.environ.get(CACHE_VARIABLE, "")
    return Path(named).resolve() if named else None


def program(name: str) -> str | None:
    """A program of the machine, else of the cache."""
    if found := shutil.which(name):
        return found
    cache = cache_folder()
    places = [] if cache is None else sorted(cache.glob(f"*/usr/bin/{name}"))
    return str(places[0]) if places else None


def own_engine_needed() -> bool:
    """Whether no engine answers on this machine already."""
    if shutil.which("docker") is None:
        return True
    asked = subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=30)
    return asked.returncode != 0


@contextlib.contextmanager
def engine(network: Literal["host", "own"]) -> Iterator[Engine]:
    """An engine for builds (``host``: reaches package indices) or runs (``own``: bridges, ports).

    Raises:
        NoEngineError: there is none, and none can be started.
    """
    if not own_engine_needed():
        yield Engine()
        return
    cache = _engine_parts()
    log = cache / f"engine-{network}.log"
    command = ["unshare", "--mount", *(["--net"] if network == "own" else [])]
    command += ["bash", str(ROOT / "deploy/test/engine.sh"), str(cache), network]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    running = Engine(
        {
            "DOCKER_HOST": f"unix://{cache}/engine/docker.sock",
            "DOCKER_BUILDKIT": "1",
            "DOCKER_CONFIG": str(_client_settings(cache)),
            "PATH": f"{cache}/docker/usr/bin:{os.environ['PATH']}",
        },
        process.pid if network == "own" else None,
    )
    try:
        _wait(running, process, log)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _engine_parts() -> Path:
    cache = cache_folder()
    if cache is None:
        raise NoEngineError(
            f"no Docker engine answers, and {CACHE_VARIABLE} names no folder prepared by "
            "deploy/test/prepare.sh: run `make deploy-test`"
        )
    for part in ("docker/usr/sbin/dockerd", "base/usr/bin/python3"):
        if not (cache / part).exists():
            raise NoEngineError(f"{cache / part} is missing: run deploy/test/prepare.sh as root")
    return cache


def _client_settings(cache: Path) -> Path:
    """A configuration folder of the client's, where it finds the compose plugin."""
    folder = cache / "client"
    plugin = folder / "cli-plugins/docker-compose"
    unpacked = cache / "compose/usr/libexec/docker/cli-plugins/docker-compose"
    if unpacked.exists() and not plugin.exists():
        plugin.parent.mkdir(parents=True, exist_ok=True)
        plugin.symlink_to(unpacked)
    return folder


def _wait(running: Engine, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_LIMIT_S
    # Ours first: an engine that some other run left at the same socket would answer too.
    while process.poll() is not None or running.attempt("info").returncode != 0:
        if process.poll() is not None or time.monotonic() > until:
            last = log.read_text(errors="replace")[-1000:]
            raise NoEngineError(f"the engine does not start: {last}")
        time.sleep(0.2)
