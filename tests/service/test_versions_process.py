"""The real thing: a server with three versions, and every command of ``docs/versions.md``."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.repository import Repository
from tests.conftest import ROOT
from tests.service.pictures import picture
from tests.service.server_process import Server, serving
from tests.service.test_refresh_process import publish

TEXT = (ROOT / "docs" / "versions.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Version 1 answers, 2 beside it; 3 is the latest; all answer differently."""
    root = tmp_path_factory.mktemp("versions") / "models"
    shutil.copytree(repository, root)
    store = Repository(root)
    publish(store, 0.05)
    publish(store, -20.0)
    flags = ("--open-admin", "--warmup-ms", "100", "--refresh-interval-ms", "200")
    with serving(root, "--model", "small@1,small@2", *flags) as found:
        until(found, lambda card: all(place["state"] == "ready" for place in card["places"]))
        yield found


def until(server: Server, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The model's card, once it is as it should be."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        [card] = httpx.get(f"{server.url}/v1/models").json()["models"]
        if condition(card):
            found: dict[str, Any] = card
            return found
        time.sleep(0.05)
    raise AssertionError(card)


def admin(server: Server, action: str, **body: object) -> dict[str, Any]:
    response = httpx.post(f"{server.url}/v1/admin/{action}", json=body, timeout=60)
    found: dict[str, Any] = response.raise_for_status().json()
    return found


@pytest.mark.slow
def test_every_command_of_the_document_works(server: Server, tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(picture())
    assert len(COMMANDS) >= 9
    for command in COMMANDS:
        here = command.replace("http://127.0.0.1:8000", server.url).replace("fashion", "small")
        here = here.replace("curl ", "curl --silent --show-error --fail-with-body ", 1)
        done = subprocess.run(
            ["bash", "-c", here], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    admin(server, "shadow", version=None)
    admin(server, "pin", version=1)


@pytest.mark.slow
def test_each_answer_is_one_versions_while_canary_and_shadow_come_and_go(server: Server) -> None:
    photo = picture(seed=1)
    headers = {"Content-Type": "image/png"}
    seen: dict[int, list[float]] = {}
    counts: Counter[int] = Counter()
    failures: list[object] = []
    over = asyncio.Event()

    async def client(number: int) -> None:
        mine = headers | {"X-Canary-Key": f"user-{number}"}
        async with httpx.AsyncClient(timeout=60) as session:
            while not over.is_set():
                url = f"{server.url}/v1/predict?tasks=t0,t1"
                response = await session.post(url, content=photo, headers=mine)
                if response.status_code != 200:
                    failures.append(response.text)
                    continue
                body = response.json()
                version = body["model"]["version"]
                found = [row["probability"] for row in body["results"][0]["predictions"]]
                if found != pytest.approx(seen.setdefault(version, found), abs=1e-4):
                    failures.append((version, seen[version], found))
                counts[version] += 1
            if (await session.get(f"{server.url}/v2/health/ready")).status_code != 200:
                failures.append("not ready")

    async def operator() -> None:
        try:
            for _ in range(2):
                await asyncio.to_thread(admin, server, "shadow", version=3)
                await asyncio.to_thread(admin, server, "canary", version=2, share=0.5)
                await asyncio.sleep(1)
                await asyncio.to_thread(admin, server, "canary", version=None)
                await asyncio.sleep(0.5)
        finally:
            over.set()

    async def scenario() -> None:
        await asyncio.gather(operator(), *map(client, range(8)))

    asyncio.run(scenario())
    assert failures == []
    assert set(counts) == {1, 2}, "the shadow answers nobody"
    assert seen[1] != pytest.approx(seen[2], abs=1e-2)
    # Nobody asks any more: what waits is compared.
    card = until(server, lambda card: bool(card["shadow"] and card["shadow"]["compared_rows"]))
    card = card["shadow"]
    assert card["version"] == 3
    assert card["max_difference"] > 0.01
    assert card["compared_rows"] + card["dropped_rows"] <= 2 * counts.total()
