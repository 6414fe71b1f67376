"""POST /v1/admin/*: who may, and what it does to the model that answers."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import httpx
import pytest
import torch
from torch import Tensor

from model.auto_forward import AutoForward
from model.errors import BundleError, RepositoryError
from model.rows import RowBatch
from service.core.served import ServedModel
from tests.service.core.test_refresh import Shelf
from tests.service.core.test_serving import until
from tests.service.fakes import fake_forward, make_model
from tests.service.http.apps import assert_error, make_app, running, send, services
from tests.service.pictures import picture


@pytest.mark.parametrize("action", ["refresh", "rollback", "pin", "canary", "shadow", "measure"])
def test_without_keys_nobody_may_unless_a_setting_says_so(action: str) -> None:
    response = send(make_app(), "POST", f"/v1/admin/{action}", json={"version": 1})
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
            assert re.findall(r'taskroute_model_info{.*role="(\w+)".*version="(\d)"', metrics) == [
                ("stable", "1"),
                ("previous", "2"),
            ]
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


def test_a_version_is_pinned_and_let_go_again() -> None:
    async def scenario() -> None:
        shelf = Shelf(version=2)
        async with running(make_app(shelf, open_admin=True)) as client:

            async def pin(version: int | None) -> httpx.Response:
                return await client.post("/v1/admin/pin", json={"version": version})

            body = (await pin(1)).json()
            assert (body["outcome"], body["model"]["version"]) == ("swapped", 1)
            [place] = (await client.get("/v1/models")).json()["models"][0]["places"]
            assert (place["wanted"], place["version"]) == (1, 1)
            assert_error(await pin(77), 404, "unknown_version")
            shelf.faults[3] = BundleError("model.safetensors is truncated")
            assert_error(await pin(3), 422, "load_failed")
            page = (await client.get("/v1/model")).json()
            assert (page["version"], page["reason"], page["refresh"]["follows"]) == (1, None, False)
            body = (await pin(None)).json()
            assert (body["outcome"], body["model"]["version"]) == ("swapped", 2)
            assert (await client.get("/v1/model")).json()["refresh"]["follows"]
            for none_such in (0, 10**300):
                assert_error(await pin(none_such), 422, "invalid_field")

    asyncio.run(scenario())


def test_a_canary_answers_its_share_or_who_asks_for_it_until_it_is_ended() -> None:
    async def scenario() -> None:
        async with running(make_app(Shelf(), open_admin=True)) as client:

            async def version(**headers: str) -> int:
                headers = {name.replace("_", "-"): value for name, value in headers.items()}
                headers["Content-Type"] = "image/png"
                response = await client.post("/v1/predict", content=picture(), headers=headers)
                found: int = response.json()["model"]["version"]
                return found

            async def canary(**body: object) -> httpx.Response:
                return await client.post("/v1/admin/canary", json=body)

            assert await version(X_Canary="always") == 1
            body = (await canary(version=2, share=0.5)).json()
            assert (body["outcome"], body["model"]["version"]) == ("swapped", 2)
            assert await version(X_Canary="always") == 2
            assert await version(X_Canary="never") == 1
            keys = [f"user-{number}" for number in range(40)]
            first = [await version(X_Canary_Key=key) for key in keys]
            assert 8 < first.count(2) < 32
            assert [await version(X_Canary_Key=key) for key in keys] == first
            assert [await version(X_Request_ID=key) for key in keys] == first
            assert (await canary(version=2, share=1)).json()["outcome"] == "unchanged"
            assert {await version(X_Canary_Key=key) for key in keys} == {2}
            wrong = {"X-Canary": "yes", "Content-Type": "image/png"}
            response = await client.post("/v1/predict", content=picture(), headers=wrong)
            assert_error(response, 422, "invalid_field")
            path = "/v2/models/fashion/infer"
            assert_error(await client.post(path, headers=wrong), 400, "invalid_field")
            text = (await client.get("/metrics")).text
            ok = 'taskroute_model_requests_total{model="fashion",outcome="ok",version="2"}'
            assert float(text.split(ok)[1].split()[0]) == 41 + 3 * first.count(2)
            card = (await client.get("/v1/models")).json()["models"][0]
            assert card["canary_share"] == 1
            assert [(v["version"], v["roles"]) for v in card["versions"]] == [
                (1, ["stable"]),
                (2, ["canary"]),
            ]
            assert_error(await canary(version=77, share=0.1), 404, "unknown_version")
            assert await version(X_Canary="always") == 2
            assert (await canary(version=None)).json()["model"] is None
            assert await version(X_Canary="always") == 1

    asyncio.run(scenario())


def test_more_versions_than_there_is_room_for_are_refused() -> None:
    async def scenario() -> None:
        app = make_app(Shelf(), open_admin=True, max_versions=2)
        async with running(app) as client:
            load = "/v2/repository/models/fashion/load"
            body = {"parameters": {"version": 2}}
            assert (await client.post(load, json=body)).status_code == 200
            body = {"parameters": {"version": 3}}
            details = assert_error(await client.post(load, json=body), 409, "too_many_versions")
            assert details == {"served": 2, "max_versions": 2}
            for action in ("canary", "shadow"):
                response = await client.post(f"/v1/admin/{action}", json={"version": 3})
                assert_error(response, 409, "too_many_versions")

    asyncio.run(scenario())


def test_a_shadow_is_compared_and_told_of_and_never_answers() -> None:
    async def scenario() -> None:
        shelf = Shelf()

        def change(model: ServedModel) -> None:
            def shift(batch: RowBatch, logits: Tensor) -> None:
                logits[:, 0] += 3.0 * (model.version == 2)

            fake_forward(model).fault = shift

        shelf.change = change
        app = make_app(shelf, open_admin=True)
        async with running(app) as client:
            body = (await client.post("/v1/admin/shadow", json={"version": 2})).json()
            assert (body["outcome"], body["model"]["version"]) == ("swapped", 2)

            async def ask(path: str) -> httpx.Response:
                headers = {"Content-Type": "image/png"}
                return await client.post(path, content=picture(), headers=headers)

            answer = (await ask("/v1/predict?tasks=t0,kind")).json()
            assert answer["model"]["version"] == 1
            assert_error(await ask("/v1/predict?version=2"), 404, "unknown_version")
            await until(lambda: services(app).core.shadows.totals("fashion") is not None)
            card = (await client.get("/v1/models")).json()["models"][0]
            assert [version["roles"] for version in card["versions"]] == [["stable"], ["shadow"]]
            shadow = card["shadow"]
            assert (shadow["version"], shadow["compared_rows"], shadow["failed_rows"]) == (2, 2, 0)
            assert sum(shadow["most_flipped"].values()) == shadow["label_flips"]
            assert 0 < shadow["mean_difference"] <= shadow["max_difference"]
            text = (await client.get("/metrics")).text
            labels = 'model="fashion",version="2"}'
            assert 'shadow_rows_total{model="fashion",outcome="compared",version="2"} 2' in text
            assert f"shadow_probability_difference_count{{{labels} 2.0" in text
            assert f"shadow_label_flips_total{{{labels} {float(shadow['label_flips'])}" in text
            largest = shadow["max_difference"]
            assert f"shadow_probability_difference_max{{{labels} {largest}" in text
            assert (await client.post("/v1/admin/shadow", json={"version": None})).json()[
                "model"
            ] is None
            assert (await client.get("/v1/models")).json()["models"][0]["shadow"] is None

    asyncio.run(scenario())


def test_strategies_are_measured_again_and_the_model_page_tells() -> None:
    def choosing() -> ServedModel:
        model = make_model()
        sample = RowBatch.all_pairs(torch.zeros(1, 28, 28, 3, dtype=torch.uint8), range(3))
        return replace(model, forward=AutoForward([fake_forward(model)], sample, lambda _: True))

    async def scenario() -> None:
        async with running(make_app(choosing, open_admin=True)) as client:
            card = (await client.get("/v1/model")).json()["measured"]
            assert (card["rows"], card["images"], list(card["seconds"])) == (3, 1, ["fake"])
            body = (await client.post("/v1/admin/measure")).json()
            assert (body["before"], body["strategy"]) == ("fake", "fake")
            assert body["model"]["version"] == 1
            assert (await client.get("/v1/model")).json()["measured"] == body["measured"]
            [version] = (await client.get("/v1/models")).json()["models"][0]["versions"]
            assert version["measured"] == body["measured"]
            missing = await client.post("/v1/admin/measure", params={"version": 7})
            assert_error(missing, 404, "unknown_version")
            assert_error(
                await client.post("/v1/admin/measure", params={"model": "shoes"}),
                404,
                "unknown_model",
            )
        async with running(make_app(open_admin=True)) as client:
            assert (await client.get("/v1/model")).json()["measured"] is None
            assert_error(await client.post("/v1/admin/measure"), 409, "strategy_fixed")

    asyncio.run(scenario())
