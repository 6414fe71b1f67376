"""The repository: its index is what is published; load takes the newest, or one beside it."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from model.repository import Repository
from service.core.loader import RepositorySources
from service.core.run_options import RunOptions
from tests.service.http.apps import assert_error, make_app, running, send

INDEX = "/v2/repository/index"
LOAD = "/v2/repository/models/small/load"
UNLOAD = "/v2/repository/models/small/unload"


@pytest.fixture
def growing(repository: Path, tmp_path: Path) -> Path:
    """A repository of one's own, with version 1 of ``small``."""
    root = tmp_path / "repository"
    shutil.copytree(repository, root)
    return root


def app_of(root: Path, **changes: Any) -> FastAPI:
    sources = RepositorySources(root, RunOptions(strategy="masked"))
    given = {"repository": str(root), "model": "small", "open_admin": True} | changes
    return make_app(sources, **given)


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
            assert "does not serve the model" in other
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


def test_a_model_that_was_unloaded_answers_503_until_it_is_loaded_again(growing: Path) -> None:
    async def scenario() -> None:
        async with running(app_of(growing)) as client:
            for _ in range(2):
                assert (await client.post(UNLOAD)).json() == {}
            for path in ("/v2/models/small/ready", "/v2/health/ready", "/v1/tasks"):
                response = await client.get(path)
                assert assert_error(response, 503, "model_unavailable") == {"reason": "unloaded"}
            [entry] = (await client.post(INDEX)).json()
            assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", "unloaded")
            assert (await client.post(INDEX, json={"ready": True})).json() == []
            assert "taskroute_model_info{" not in (await client.get("/metrics")).text
            assert (await client.post(LOAD)).json() == {}
            assert (await client.get("/v2/health/ready")).status_code == 200

    asyncio.run(scenario())


def test_another_model_of_the_repository_is_loaded_and_answers_by_its_name(growing: Path) -> None:
    async def scenario() -> None:
        shutil.copytree(growing / "small", growing / "other")
        async with running(app_of(growing)) as client:
            assert_error(await client.get("/v2/models/other/ready"), 404, "unknown_model")
            assert (await client.post("/v2/repository/models/other/load")).json() == {}
            assert (await client.get("/v2/models/other/ready")).json()["ready"] is True
            entries = (await client.post(INDEX)).json()
            assert {(x["name"], x["state"]) for x in entries} == {
                ("other", "READY"),
                ("small", "READY"),
            }

    asyncio.run(scenario())


def test_the_parameter_version_loads_one_beside_and_takes_it_out_again(growing: Path) -> None:
    async def scenario() -> None:
        publish(growing)
        async with running(app_of(growing)) as client:

            async def served() -> list[str]:
                found: list[str] = (await client.get("/v2/models/small")).json()["versions"]
                return found

            second = "/v2/models/small/versions/2/ready"
            assert await served() == ["2"]
            for given in ("1", 1):
                body = {"parameters": {"version": given}}
                assert (await client.post(LOAD, json=body)).json() == {}
                assert await served() == ["1", "2"]
            first = await client.get("/v2/models/small/versions/1")
            assert first.json()["properties"]["version"] == "1"
            body = {"parameters": {"version": 2}}
            assert_error(await client.post(UNLOAD, json=body), 409, "version_in_use")
            assert (await client.get(second)).status_code == 200
            body = {"parameters": {"version": 1}}
            assert (await client.post(UNLOAD, json=body)).json() == {}
            assert await served() == ["2"]
            body = {"parameters": {"version": 7}}
            assert_error(await client.post(LOAD, json=body), 404, "unknown_version")
            for bad in (b"true", b"0", b'"x"', b"[]", b'"%s"' % (b"9" * 5000)):
                content = b'{"parameters": {"version": %s}}' % bad
                assert_error(await client.post(LOAD, content=content), 400, "invalid_field")

    asyncio.run(scenario())


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_load_and_unload_are_for_administrators_and_models_that_there_are(verb: str) -> None:
    path = "/v2/repository/models/{}/" + verb
    assert_error(send(make_app(), "POST", path.format("fashion")), 403, "admin_off")
    response = send(make_app(open_admin=True), "POST", path.format("other"))
    assert_error(response, 404, "unknown_model")
