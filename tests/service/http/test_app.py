"""The app with a real repository behind it."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from service.http.app import create_app
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
