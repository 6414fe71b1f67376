"""POST /v1/admin/*: who may, and what it does to the model that answers."""

from __future__ import annotations

import asyncio

import pytest

from model.errors import BundleError, RepositoryError
from tests.service.core.test_refresh import Shelf
from tests.service.http.apps import assert_error, make_app, running, send


@pytest.mark.parametrize("path", ["/v1/admin/refresh", "/v1/admin/rollback"])
def test_without_keys_nobody_may_unless_a_setting_says_so(path: str) -> None:
    response = send(make_app(), "POST", path)
    assert_error(response, 403, "admin_off")
    assert "open_admin" in response.json()["error"]


def test_refresh_and_rollback_change_what_answers_and_the_model_page_tells() -> None:
    async def scenario() -> None:
        shelf = Shelf()
        async with running(make_app(shelf, open_admin=True)) as client:
            body = (await client.post("/v1/admin/refresh")).json()
            assert (body["outcome"], body["model"]["version"]) == ("unchanged", 1)
            assert_error(await client.post("/v1/admin/rollback"), 409, "no_previous_model")
            shelf.version = 2
            body = (await client.post("/v1/admin/refresh")).json()
            assert (body["outcome"], body["model"]["version"]) == ("swapped", 2)
            page = (await client.get("/v1/model")).json()
            assert (page["version"], page["refresh"]["previous"]["version"]) == (2, 1)
            assert page["refresh"]["follows"]
            assert page["refresh"]["interval_ms"] == 5000
            body = (await client.post("/v1/admin/rollback")).json()
            assert (body["outcome"], body["model"]["version"]) == ("swapped", 1)
            assert (await client.get("/v1/tasks")).json()["model"]["version"] == 1
            metrics = (await client.get("/metrics")).text
            assert "taskroute_model_rollbacks_total 1.0" in metrics
            assert 'taskroute_model_loads_total{result="ok"} 2.0' in metrics
            assert 'taskroute_model_info{arch="vgg11_bn",device="cpu"' in metrics
            assert metrics.count("taskroute_model_info{") == 1
            assert "taskroute_repository_read_timestamp_seconds 0.0" not in metrics

    asyncio.run(scenario())


def test_what_is_refused_or_unreadable_is_told_and_ready_stays() -> None:
    async def scenario() -> None:
        shelf = Shelf()
        async with running(make_app(shelf, open_admin=True)) as client:
            shelf.version, shelf.faults[2] = 2, BundleError("model.safetensors is truncated")
            body = (await client.post("/v1/admin/refresh")).json()
            assert (body["outcome"], body["model"]["version"]) == ("refused", 1)
            assert body["reason"] == "model.safetensors is truncated"
            page = (await client.get("/v1/model")).json()
            assert (page["state"], page["reason"]) == ("ready", "model.safetensors is truncated")
            shelf.gone = RepositoryError("/models cannot be read")
            body = (await client.post("/v1/admin/refresh")).json()
            assert (body["outcome"], body["reason"]) == ("unreadable", "/models cannot be read")
            page = (await client.get("/v1/model")).json()
            assert page["refresh"]["unreadable"] == "/models cannot be read"
            assert (await client.get("/v2/health/ready")).status_code == 200

    asyncio.run(scenario())
