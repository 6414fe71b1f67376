"""The real thing: refreshes by `python -m training`, under a server with clients that ask on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from model.repository import Repository
from tests.service.pictures import picture
from tests.service.server_process import Server, serving
from tests.training.refresh.first_version import publish_first, write_pack

CLIENTS = 4
FLAGS = ("--refresh-interval-ms", "100", "--warmup-ms", "200", "--model", "m")


def command(root: Path, source: str, *more: str) -> list[str]:
    base = [sys.executable, "-m", "training", "refresh", "--data", source, "--name", "m"]
    return [*base, "--repository", str(root / "models"), "--max-ece-rise", "1", *more]


def refresh(root: Path, source: str, *more: str) -> subprocess.CompletedProcess[str]:
    made = command(root, source, "--max-task-ece-rise", "1", *more)
    return subprocess.run(made, capture_output=True, text=True, check=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    publish_first(tmp_path, write_pack(tmp_path / "pack.npz"))
    return tmp_path


def source(root: Path) -> str:
    return f"pack:{root / 'pack.npz'}"


def published(root: Path) -> tuple[list[int], int]:
    """Every version, each read whole, and the latest."""
    repository = Repository(root / "models")
    versions = repository.versions("m")
    for version in versions:
        repository.read("m", version).network()
    return versions, repository.latest("m")


@contextmanager
def asking(server: Server) -> Iterator[tuple[list[int], set[int]]]:
    """Clients that ask all the time: statuses other than 200, and versions that answered."""
    wrong: list[int] = []
    seen: set[int] = set()
    over = False

    async def client(session: httpx.AsyncClient) -> None:
        while not over:
            answer = await session.post(
                f"{server.url}/v1/predict",
                content=picture(seed=1),
                headers={"Content-Type": "image/png"},
            )
            if answer.status_code != 200:
                wrong.append(answer.status_code)
            else:
                seen.add(answer.json()["model"]["version"])
            await asyncio.sleep(0.02)

    async def all_clients() -> None:
        async with httpx.AsyncClient(timeout=60) as session:
            await asyncio.gather(*(client(session) for _ in range(CLIENTS)))

    thread = threading.Thread(target=asyncio.run, args=(all_clients(),))
    thread.start()
    try:
        yield wrong, seen
    finally:
        over = True
        thread.join()


def wait_for(server: Server, version: int) -> None:
    until = time.monotonic() + 180
    while httpx.get(f"{server.url}/v1/model").json()["version"] != version:
        assert time.monotonic() < until, "the service does not follow"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_better_data_is_served_wrong_labels_are_refused_and_one_command_goes_back(
    root: Path,
) -> None:
    with serving(root / "models", *FLAGS) as server, asking(server) as (wrong, seen):
        done = refresh(root, source(root), "--epochs", "3")
        assert done.returncode == 0, done.stderr
        wait_for(server, 2)
        bad = write_pack(root / "wrong.npz", seed=3, shuffled=True)
        done = refresh(root, bad, "--epochs", "1", "--json", str(root / "report.json"))
        assert done.returncode == 3, done.stderr
        assert "REFUSED macro AUROC as published" in done.stdout
        report = json.loads((root / "report.json").read_text())
        assert not report["passed"]
        assert set(report["tasks"]) == {"bright", "shade::light", "left"}
        assert published(root) == ([1, 2], 2)
        where = ["--repository", str(root / "models"), "--name", "m"]
        subprocess.run([sys.executable, "-m", "training", "rollback", *where], check=True)
        wait_for(server, 1)
        prune = [sys.executable, "-m", "training", "prune", *where, "--keep", "1"]
        subprocess.run([*prune, "--service", server.url], check=True)
        assert published(root) == ([1, 2], 1)
    assert wrong == []
    assert seen == {1, 2}


# What a refresh says, and so where it is, when it is killed.
PHASES = ("decoding train", "warm start", "training:", "evaluating:", "evaluating the candidate")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_any_point_nothing_is_half_published_and_resume_finishes(root: Path) -> None:
    more = ("--epochs", "3", "--max-task-ece-rise", "1", "--checkpoint-interval-s", "0.01")
    for phase in PHASES:
        process = subprocess.Popen(
            command(root, source(root), *more, "--resume"),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        assert process.stderr is not None
        with process.stderr:
            assert any(phase in line for line in process.stderr), f"it never said {phase!r}"
            os.kill(process.pid, signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
        assert published(root) == ([1], 1), phase
    done = refresh(root, source(root), *more, "--resume")
    assert done.returncode == 0, done.stderr
    assert published(root) == ([1, 2], 2)
    assert not list((root / "models/m/.training").glob("refresh-*"))


def together(commands: Sequence[Sequence[str]]) -> list[int]:
    processes = [subprocess.Popen(one, stdout=subprocess.DEVNULL) for one in commands]
    return [process.wait(300) for process in processes]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_at_once_publish_one_version_each_in_order(root: Path) -> None:
    # The second in line is compared with the first: as good within what is allowed here.
    wide = ("--epochs", "3", "--max-macro-drop", "1", "--max-task-drop", "1")
    one = command(root, source(root), *wide, "--max-task-ece-rise", "1")
    assert together([one, [*one, "--seed", "1"]]) == [0, 0]
    assert published(root) == ([1, 2, 3], 3)
    repository = Repository(root / "models")
    parents = [repository.read("m", version).manifest.parent for version in (2, 3)]
    assert [parent and parent.version for parent in parents] == [1, 2]
    last = repository.read("m", 3).metrics["refresh"]
    assert (last["trained_from"]["version"], last["old"]["version"]) == (1, 2)
