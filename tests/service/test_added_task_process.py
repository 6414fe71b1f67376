"""The real thing: a task added to the repository of a running service."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.service.pictures import picture
from tests.service.server_process import Server, serving
from tests.service.small_model import publish_small
from training.cli import main

PICTURES = [picture(seed=seed) for seed in range(3)]


def dark_or_not(path: Path) -> Path:
    """An image pack with one attribute that is easy to learn."""
    dark = np.arange(80) % 2
    noise = np.random.default_rng(0).integers(0, 60, (80, 28, 28, 3))
    np.savez(
        path,
        images=(noise + 150 * (1 - dark)[:, None, None, None]).astype(np.uint8),
        attr=dark[:, None].astype(np.uint8),
        attr_names=np.array(["dark"]),
        split=np.array(["train"] * 48 + ["val"] * 16 + ["test"] * 16),
    )
    return path


def ask(server: Server, tasks: list[str]) -> list[dict[str, Any]]:
    """For each picture: task -> everything that is answered about it."""
    files = [("image", (f"{i}.png", data, "image/png")) for i, data in enumerate(PICTURES)]
    response = httpx.post(
        f"{server.url}/v1/predict", files=files, data={"tasks": ",".join(tasks)}, timeout=60
    )
    assert response.status_code == 200, response.text
    results = response.json()["results"]
    return [{row["task"]: row for row in result["predictions"]} for result in results]


def tasks_of(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{server.url}/v1/tasks").json()["tasks"]
    return found


def until_version(server: Server, version: int) -> None:
    limit = time.monotonic() + 60
    while httpx.get(f"{server.url}/v1/model").json()["version"] != version:
        assert time.monotonic() < limit, server.log[-5:]
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("strategy", "arch"),
    [
        ("subnet", "vgg11_bn"),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in (("masked", "vgg11_bn"), ("mixed", "vgg11_bn"), ("subnet", "small_cnn_bn"))
        ),
    ],
)
def test_a_running_service_answers_for_a_new_task_and_nothing_else_changes(
    tmp_path: Path, strategy: str, arch: str
) -> None:
    root = tmp_path / "models"
    publish_small(root, arch)
    pack = dark_or_not(tmp_path / "dark.npz")
    with serving(root, "--refresh-interval-ms", "100", "--strategy", strategy) as server:
        old, catalogue = [task["name"] for task in tasks_of(server)], tasks_of(server)
        before = ask(server, old)
        added = main(
            ["add-task", "--data", f"pack:{pack}", "--task", "dark", "--repository", str(root),
             "--name", "small", "--epochs", "5", "--work-dir", str(tmp_path / "work")]
        )  # fmt: skip
        assert added == 0
        until_version(server, 2)
        assert ask(server, old) == before
        together = ask(server, [*old, "dark"])
        assert [{name: rows[name] for name in old} for rows in together] == before
        assert all(0 <= rows["dark"]["probability"] <= 1 for rows in together)
        assert tasks_of(server)[:-1] == catalogue
        assert tasks_of(server)[-1]["name"] == "dark"
