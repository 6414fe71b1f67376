"""The app with a real repository behind it."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
import torch

from model.preprocess import load_image
from model.repository import Repository
from model.tasks import Normalisation, Task
from service.http.app import create_app
from tests.model.networks import make_network
from tests.service.http.apps import assert_error, make_settings, running
from tests.service.pictures import picture


def test_it_serves_the_latest_version_of_a_repository(repository: Path) -> None:
    async def scenario() -> None:
        settings = make_settings(repository=repository, model="small", strategy="masked")
        async with running(create_app(settings)) as client:
            files = {"image": picture()}
            response = await client.post("/v1/predict", files=files, data={"tasks": "kind,shoe"})
            assert response.json()["model"]["version"] == 1
            kind, shoe = response.json()["results"][0]["predictions"]
            assert list(kind["probabilities"]) == ["boot", "coat", "bag", "shirt"]
            assert (shoe["threshold"], shoe["calibrated"]) == (0.4, True)

    asyncio.run(scenario())


def test_tasks_of_several_domains_see_the_picture_each_as_its_own_has_it(tmp_path: Path) -> None:
    dark, light = (Normalisation(mean=(mean,) * 3, std=(0.1, 0.2, 0.3)) for mean in (0.2, 0.7))
    tasks = [
        Task(name=name, normalisation=own)
        for name, own in (("a", None), ("b", dark), ("c", light), ("d", dark))
    ]
    network = make_network(tasks)
    Repository(tmp_path).publish("several", network, {}, "# several\n")
    data = picture()
    pixels = load_image(data, network.config.preprocess).pixels[None]
    with torch.inference_mode():
        images = torch.from_numpy(pixels)
        expected = [network(images, task).sigmoid().item() for task in range(4)]
    assert len({round(one, 3) for one in expected}) == 4

    async def scenario() -> None:
        settings = make_settings(repository=tmp_path, model="several", strategy="subnet")
        async with running(create_app(settings)) as client:
            for asked in ("a,b,c,d", "c", "d,a"):
                response = await client.post(
                    "/v1/predict", files={"image": data}, data={"tasks": asked}
                )
                rows = response.json()["results"][0]["predictions"]
                found = {row["task"]: row["probability"] for row in rows}
                for name in asked.split(","):
                    assert found[name] == pytest.approx(expected["abcd".index(name)], abs=1e-5)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("damage", "reason", "named"),
    [
        ("model.safetensors", "bad_bundle", "model.safetensors"),
        ("manifest.json", "bad_bundle", "manifest.json"),
        ("everything", "repository_unreadable", "repository"),
    ],
)
def test_what_cannot_be_loaded_is_refused_while_the_process_stays_up(
    repository: Path, tmp_path: Path, damage: str, reason: str, named: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(repository, copy)
    if damage == "everything":
        shutil.rmtree(copy)
    else:
        (copy / "small" / "1" / damage).write_bytes(b"half")

    async def scenario() -> None:
        settings = make_settings(repository=copy, model="small", strategy="masked")
        async with running(create_app(settings)) as client:
            assert (await client.get("/v2/health/live")).status_code == 200
            for response in (
                await client.get("/v2/health/ready"),
                await client.post("/v1/predict", files={"image": picture()}),
            ):
                assert assert_error(response, 503, "model_unavailable") == {"reason": reason}
                assert named in response.json()["error"]
            assert named in (await client.get("/v1/model")).json()["reason"]

    asyncio.run(scenario())
