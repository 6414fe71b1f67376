"""Publishers in other processes, killed or side by side, for test_repository.

    python -m tests.model.killed_publisher FOLDER

Torch takes seconds to import, so one process imports it and forks every publisher. Prints JSON:
what was left after each kill (in FOLDER/killed), what came of the many (in FOLDER/together).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from model.network import RoutedNetwork
from model.repository import Repository
from tests.model.networks import make_network

# Every call by which publishing changes what is on disk.
STEPS = ((os, "fsync"), (Path, "mkdir"), (Path, "rename"), (Path, "replace"), (os, "open"))


def die_at(step: int) -> None:
    """Kill this process just before its ``step``-th call (from 0) of any of STEPS."""
    calls = 0

    def dying(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            if calls == step:
                os.kill(os.getpid(), signal.SIGKILL)
            calls += 1
            return original(*args, **kwargs)

        return call

    for owner, name in STEPS:
        setattr(owner, name, dying(getattr(owner, name)))


def forked(work: Callable[[], object]) -> int:
    """Process id of a fork that runs ``work`` and ends."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return child


def left_behind(repository: Repository) -> dict[str, object]:
    versions = repository.versions("m")
    for version in versions:
        repository.read("m", version).network()  # raises unless whole
    latest = (repository.root / "m" / "LATEST").read_text().strip()
    return {"versions": versions, "latest": int(latest)}


def kill_one_by_one(root: Path, network: RoutedNetwork) -> list[dict[str, object]]:
    """A publisher for each step, killed at it, until one is not reached by its step."""
    reports = []
    repository = Repository(root)
    repository.publish("m", network, {}, "card")
    for step in range(200):

        def work(step: int = step) -> None:
            die_at(step)
            repository.publish("m", network, {}, "card")

        _, status = os.waitpid(forked(work), 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        reports.append({"killed": killed, **left_behind(repository)})
        if not killed:
            break
    return reports


def publish_together(
    root: Path, network: RoutedNetwork, publishers: int, each: int
) -> dict[str, object]:
    """Several publishers at once, and a reader."""
    repository = Repository(root)
    repository.publish("m", network, {}, "card")

    def work() -> None:
        for _ in range(each):
            repository.publish("m", network, {}, "card")

    children = [forked(work) for _ in range(publishers)]
    seen, failed = set(), 0
    while children:
        # A reader never sees less than a whole latest version.
        bundle = repository.read("m")
        bundle.network()
        seen.add(int(bundle.path.name))
        for child in list(children):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                children.remove(child)
                failed += status != 0
    return {"failed": failed, "seen": sorted(seen), **left_behind(repository)}


if __name__ == "__main__":
    torch.set_num_threads(1)  # a fork inherits no worker threads
    folder, small = Path(sys.argv[1]), make_network()
    found = {
        "killed": kill_one_by_one(folder / "killed", small),
        "together": publish_together(folder / "together", small, publishers=3, each=3),
    }
    sys.stdout.write(json.dumps(found))
