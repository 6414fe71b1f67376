"""Versions published under load: no request fails, each is answered by one version, rightly.

The long one is what the service is judged by: 50 clients for 60 seconds, three new versions and a
corrupt one.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from model.preprocess import load_image
from model.repository import Repository
from model.rows import RowBatch
from service.core.loader import RepositorySources
from service.core.run_options import RunOptions
from tests.service.hardening.test_corpus import resident_bytes
from tests.service.pictures import picture
from tests.service.server_process import Server, answers, serving
from tests.service.test_refresh_process import model_page, name_latest, publish, publish_corrupt

TASKS = ["t0", "shoe", "kind"]
PHOTOS = [picture(seed=seed) for seed in range(6)]
SCALES = (0.05, -1.0, 3.0)


@dataclass
class Seen:
    """What all clients saw."""

    answers: Counter[str] = field(default_factory=Counter)  # by digest
    failures: list[object] = field(default_factory=list)
    unready: list[int] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    numbers: dict[tuple[str, int], set[tuple[float, ...]]] = field(default_factory=dict)


def expected(root: Path, version: int) -> list[list[float]]:
    """For every photo what a version answers: computed here, with the network masked whole."""
    source = RepositorySources(root, RunOptions(strategy="masked")).of("small")
    model = source.load(source.published(version))
    tasks = model.tasks.select(TASKS)
    pixels = np.stack([load_image(photo, model.config.preprocess).pixels for photo in PHOTOS])
    with torch.inference_mode():
        logits = model.forward(RowBatch.all_pairs(torch.from_numpy(pixels), tasks)).numpy()
    rows = model.decisions.probabilities(np.tile(tasks, len(PHOTOS)), logits)
    t0, shoe, kind = (rows[task :: len(tasks)] for task in range(len(tasks)))
    return [
        [t0[photo, 1], shoe[photo, 1], kind[photo].max(), *kind[photo]]
        for photo in range(len(PHOTOS))
    ]


async def client(url: str, number: int, seen: Seen) -> None:
    async with httpx.AsyncClient(timeout=60) as session:
        for photo in itertools.islice(itertools.cycle(range(len(PHOTOS))), number, None):
            if seen.over.is_set():
                return
            response = await session.post(
                f"{url}/v1/predict?tasks={','.join(TASKS)}",
                content=PHOTOS[photo],
                headers={"Content-Type": "image/png"},
            )
            if response.status_code != 200:
                seen.failures.append(response.text)
                continue
            body = response.json()
            numbers = [number for task in answers(body)[0].values() for number in task]
            digest = body["model"]["digest"]
            seen.answers[digest] += 1
            seen.numbers.setdefault((digest, photo), set()).add(tuple(numbers))


async def probe(url: str, seen: Seen) -> None:
    async with httpx.AsyncClient(timeout=60) as session:
        while not seen.over.is_set():
            for kind in ("live", "ready"):
                status = (await session.get(f"{url}/v2/health/{kind}")).status_code
                if status != 200:
                    seen.unready.append(status)
            await asyncio.sleep(0.1)


async def page(server: Server, name: str, value: object) -> None:
    """Wait until ``/v1/model`` says so."""
    async with asyncio.timeout(120):
        while (await asyncio.to_thread(model_page, server))[name] != value:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def publish_all(
    server: Server, root: Path, scales: Sequence[float], every_s: float
) -> list[str]:
    """Publish a version for each scale, a corrupt one after the first; their digests."""
    store, digests = Repository(root), []
    for position, scale in enumerate(scales):
        await asyncio.sleep(every_s)
        digests.append(await asyncio.to_thread(publish, store, scale))
        await page(server, "digest", digests[-1])
        if position == 0:
            await asyncio.sleep(every_s)
            good = store.latest("small")
            await asyncio.to_thread(publish_corrupt, root)
            async with asyncio.timeout(120):
                while not (await asyncio.to_thread(model_page, server))["reason"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            await page(server, "digest", digests[-1])
            assert good is not None
            name_latest(root, good)
            await page(server, "reason", None)
    await asyncio.sleep(every_s)
    return digests


def run(
    repository: Path, folder: Path, clients: int, scales: Sequence[float], every_s: float
) -> tuple[Seen, dict[str, list[list[float]]], float]:
    """The scenario; what was seen, what each version should have said, and memory's growth."""
    root = folder / "models"
    shutil.copytree(repository, root)
    store = Repository(root)

    async def scenario(server: Server) -> tuple[Seen, list[str], int]:
        seen = Seen()
        asking = [client(server.url, number, seen) for number in range(clients)]
        crowd = asyncio.gather(probe(server.url, seen), *asking)
        await asyncio.sleep(every_s)  # the memory of a server that is busy, before any change
        busy = resident_bytes(server)
        try:
            digests = await publish_all(server, root, scales, every_s)
        finally:
            seen.over.set()
            await crowd
        return seen, [store.read("small", 1).digest, *digests], busy

    with serving(root, "--refresh-interval-ms", "200", "--warmup-ms", "300") as server:
        seen, digests, busy = asyncio.run(scenario(server))
        growth = resident_bytes(server) / busy - 1
        assert server.metric('taskroute_model_loads_total{result="refused"') == 1
        server.process.terminate()
        assert server.process.wait(60) == 0
    versions = [1, 2, *range(4, len(digests) + 2)]  # 3 was the corrupt one
    right = {
        digest: expected(root, version)
        for digest, version in zip(digests, versions[: len(digests)], strict=True)
    }
    return seen, right, growth


def check(seen: Seen, right: dict[str, list[list[float]]]) -> None:
    assert seen.failures == []
    assert seen.unready == []
    assert set(seen.answers) == set(right), "an answer from a version that was never served whole"
    for one, other in itertools.combinations(right.values(), 2):
        assert one[0] != pytest.approx(other[0], abs=1e-2), "alike: the test shows nothing"
    for (digest, photo), found in seen.numbers.items():
        for numbers in found:
            assert list(numbers) == pytest.approx(right[digest][photo], abs=1e-4)


def test_a_new_version_and_a_corrupt_one_under_eight_clients(
    repository: Path, tmp_path: Path
) -> None:
    seen, right, _ = run(repository, tmp_path, clients=8, scales=SCALES[:1], every_s=0.7)
    check(seen, right)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc/PID/status to read")
def test_three_new_versions_and_a_corrupt_one_under_fifty_clients_for_a_minute(
    repository: Path, tmp_path: Path
) -> None:
    seen, right, growth = run(repository, tmp_path, clients=50, scales=SCALES, every_s=11.0)
    print(f"{sum(seen.answers.values())} answers, {len(seen.failures)} failures, "  # noqa: T201
          f"memory {growth:+.1%}, by version {sorted(seen.answers.values())}")  # fmt: skip
    check(seen, right)
    assert growth < 0.05
