"""The repository: its index is what is published; load takes the newest; unload says no."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from model.repository import Repository
from service.core.loader import RepositoryLoader
from service.core.run_options import RunOptions
from tests.service.http.apps import assert_error, make_app, running, send

INDEX = "/v2/repository/index"
LOAD = "/v2/repository/models/small/load"


@pytest.fixture
def growing(repository: Path, tmp_path: Path) -> Path:
    """A repository of one's own, with version 1 of ``small``."""
    root = tmp_path / "repository"
    shutil.copytree(repository, root)
    return root


def app_of(root: Path, **changes: Any) -> FastAPI:
    loader = RepositoryLoader(root, "small", None, RunOptions(strategy="masked"))
    given = {"repository": root, "model": "small", "open_admin": True} | changes
    return make_app(loader, **given)


def publish(root: Path) -> int:
    found = Repository(root)
    return found.publish("small", found.read("small").network(), {}, "# small\n")


def test_the_index_lists_what_is_published_and_what_answers(growing: Path) -> None:
    async def scenario() -> None:
        async with running(app_of(growing)) as client:
            assert publish(growing) == 2
            (growing / "other").mkdir()
            shutil.copytree(growing / "small" / "1", growing / "other" / "1")
            entries = (await client.post(INDEX)).json()
            assert [(x["name"], x["version"], x["state"]) for x in entries] == [
                ("other", "1", "UNAVAILABLE"),
                ("small", "1", "READY"),
                ("small", "2", "UNAVAILABLE"),
            ]
            other, ready, second = (entry["reason"] for entry in entries)
            assert "'small' only" in other
            assert (ready, second) == ("", "version 1 answers")
            entries = (await client.post(INDEX, json={"ready": True})).json()
            assert [(x["name"], x["version"]) for x in entries] == [("small", "1")]

    asyncio.run(scenario())


def test_a_repository_that_is_gone_is_told_but_what_answers_is_known() -> None:
    app = make_app()  # its repository does not exist
    response = send(app, "POST", INDEX)
    assert (response.status_code, response.json()["code"]) == (503, "repository_unreadable")
    [entry] = send(make_app(), "POST", INDEX, json={"ready": True}).json()
    assert (entry["name"], entry["state"]) == ("fashion", "READY")


@pytest.mark.parametrize(
    ("body", "code"), [(b"{", "malformed_request"), (b'{"ready": 1}', "invalid_field")]
)
def test_a_bad_index_request_is_400(body: bytes, code: str) -> None:
    assert_error(send(make_app(), "POST", INDEX, content=body), 400, code)


def test_load_takes_the_newest_version_and_changes_nothing_without_one(growing: Path) -> None:
    async def scenario() -> None:
        async with running(app_of(growing)) as client:

            async def answers() -> list[str]:
                found: list[str] = (await client.get("/v2/models/small")).json()["versions"]
                return found

            response = await client.post(LOAD)
            assert (response.status_code, response.json()) == (200, {})
            assert await answers() == ["1"]
            publish(growing)
            assert await answers() == ["1"]
            assert (await client.post(LOAD, json={"parameters": {}})).status_code == 200
            assert await answers() == ["2"]
            stats = (await client.get("/v2/models/small/stats")).json()["model_stats"]
            assert "2" in [entry["version"] for entry in stats]

    asyncio.run(scenario())


def test_a_bad_bundle_is_refused_and_what_answers_goes_on(growing: Path) -> None:
    async def scenario() -> None:
        async with running(app_of(growing)) as client:
            publish(growing)
            (growing / "small" / "2" / "model.safetensors").write_bytes(b"short")
            response = await client.post(LOAD)
            assert_error(response, 400, "load_failed")
            message = response.json()["error"]
            assert "model.safetensors" in message
            assert message.endswith("version 1 goes on answering")
            assert (await client.get("/v2/models/small/versions/1/ready")).status_code == 200

    asyncio.run(scenario())


def test_a_repository_that_is_gone_fails_the_load(growing: Path) -> None:
    async def scenario() -> None:
        async with running(app_of(growing)) as client:
            shutil.rmtree(growing)
            details = assert_error(await client.post(LOAD), 400, "load_failed")
            assert details["outcome"] == "unreadable"
            assert (await client.get("/v2/models/small/ready")).status_code == 200

    asyncio.run(scenario())


def test_unload_is_not_supported_and_says_what_to_do() -> None:
    path = "/v2/repository/models/fashion/unload"
    response = send(make_app(open_admin=True), "POST", path)
    assert_error(response, 501, "not_supported")
    assert "stop the process" in response.json()["error"]


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_load_and_unload_are_for_administrators_and_the_served_model(verb: str) -> None:
    path = "/v2/repository/models/{}/" + verb
    assert_error(send(make_app(), "POST", path.format("fashion")), 403, "admin_off")
    response = send(make_app(open_admin=True), "POST", path.format("other"))
    assert_error(response, 404, "unknown_model")
