"""The real thing: versions published, one of them corrupt, under a server with twenty clients."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from model.repository import Repository
from model.store import LATEST
from tests.service.pictures import picture
from tests.service.server_process import Server, answers, serving

CLIENTS = 20
TASKS = "t0,shoe,kind"


def publish(repository: Repository, scale: float) -> str:
    """A version that answers differently; returns its digest."""
    network = repository.read("small").network()
    with torch.no_grad():
        for parameter in network.heads.parameters():
            parameter.mul_(scale)
    version = repository.publish(
        "small", network, {}, "# small\n", parent=repository.latest("small")
    )
    return repository.read("small", version).digest


def publish_corrupt(root: Path) -> None:
    """A version that a broken copy left: a byte of its weights is another."""
    directory = root / "small"
    version = int((directory / LATEST).read_text()) + 1
    shutil.copytree(directory / str(version - 1), directory / str(version))
    weights = directory / str(version) / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    name_latest(root, version)


def name_latest(root: Path, version: int) -> None:
    new = root / "small" / ".LATEST-new"
    new.write_text(f"{version}\n")
    new.replace(root / "small" / LATEST)


def model_page(server: Server) -> dict[str, Any]:
    body: dict[str, Any] = httpx.get(f"{server.url}/v1/model").json()
    return body


async def until(server: Server, **wanted: object) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            page = await asyncio.to_thread(model_page, server)
            if all(page[name] == value for name, value in wanted.items()):
                return page
            await asyncio.sleep(0.05)


@pytest.mark.slow
def test_new_versions_under_load_fail_no_request_and_a_corrupt_one_is_refused(
    repository: Path, tmp_path: Path
) -> None:
    root = tmp_path / "models"
    shutil.copytree(repository, root)
    store = Repository(root)
    seen: dict[str, list[float]] = {}  # digest -> its answers to the one image
    failures: list[object] = []
    unready: list[int] = []
    over = asyncio.Event()

    async def client(url: str) -> None:
        photo = picture(seed=1)
        headers = {"Content-Type": "image/png"}
        async with httpx.AsyncClient(timeout=60) as session:
            while not over.is_set():
                response = await session.post(
                    f"{url}/v1/predict?tasks={TASKS}", content=photo, headers=headers
                )
                if response.status_code != 200:
                    failures.append(response.json())
                    continue
                body = response.json()
                found = [number for numbers in answers(body)[0].values() for number in numbers]
                first = seen.setdefault(body["model"]["digest"], found)
                if found != pytest.approx(first, abs=1e-4):
                    failures.append((body["model"], first, found))

    async def probe(url: str) -> None:
        async with httpx.AsyncClient(timeout=60) as session:
            while not over.is_set():
                status = (await session.get(f"{url}/v2/health/ready")).status_code
                if status != 200:
                    unready.append(status)
                await asyncio.sleep(0.05)

    digests = [store.read("small").digest]

    async def operator(server: Server) -> None:
        try:
            await asyncio.sleep(1)
            digests.append(await asyncio.to_thread(publish, store, 0.05))
            await until(server, digest=digests[-1])
            await asyncio.sleep(1)
            await asyncio.to_thread(publish_corrupt, root)
            async with asyncio.timeout(60):
                while not (page := await asyncio.to_thread(model_page, server))["reason"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert "altered" in page["reason"]
            assert (page["state"], page["digest"]) == ("ready", digests[-1])
            name_latest(root, 2)
            await until(server, reason=None)
            digests.append(await asyncio.to_thread(publish, store, -1.0))
            await until(server, digest=digests[-1])
            await asyncio.sleep(1)
        finally:
            over.set()

    async def scenario(server: Server) -> None:
        clients = [client(server.url) for _ in range(CLIENTS)]
        await asyncio.gather(operator(server), probe(server.url), *clients)

    flags = ("--refresh-interval-ms", "100", "--warmup-ms", "300")
    with serving(root, *flags) as server:
        asyncio.run(scenario(server))
        refused = server.metric('taskroute_model_loads_total{result="refused"}')
        server.process.terminate()
        assert server.process.wait(60) == 0
    assert failures == []
    assert unready == []
    assert set(seen) == set(digests), "an answer from a version that was never published whole"
    for one, other in itertools.combinations(seen.values(), 2):
        assert one != pytest.approx(other, abs=1e-2), "versions that answer alike show nothing"
    assert refused == 1
