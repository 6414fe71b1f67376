"""Who answers and what can be asked; readiness of a model; statistics."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from model.errors import BundleError
from service.core.served import ServedModel
from tests.service.http.apps import assert_error, make_app, running, send, services
from tests.service.http.oip.infer_requests import INFER, as_json, only
from tests.service.pictures import TRUNCATED, picture


def get(path: str) -> Any:
    return send(make_app(), "GET", path).json()


def test_the_server_names_itself_and_its_extensions() -> None:
    body = get("/v2")
    assert body == get("/v2/")
    assert body["name"] == "taskroute"
    assert body["version"]
    extensions = {"binary_tensor_data", "classification", "model_repository", "statistics"}
    assert set(body["extensions"]) == extensions


@pytest.mark.parametrize("path", ["/v2/models/fashion", "/v2/models/fashion/versions/1"])
def test_every_task_is_an_output(path: str) -> None:
    body = get(path)
    assert (body["name"], body["versions"]) == ("fashion", ["1"])
    assert body["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    shapes = {output["name"]: output["shape"] for output in body["outputs"]}
    assert shapes == {"t0": [-1, 2], "t1": [-1, 2], "t2": [-1, 2], "kind": [-1, 4]}
    assert {output["datatype"] for output in body["outputs"]} == {"FP32"}
    assert "28 x 28" in body["properties"]["image"]
    assert body["properties"]["digest"].startswith("sha256:")
    assert all(isinstance(value, str) for value in body["properties"].values())


@pytest.mark.parametrize("end", ["", "/ready", "/stats"])
def test_what_is_not_served_is_404(end: str) -> None:
    for path, code in (
        (f"/v2/models/other{end}", "unknown_model"),
        (f"/v2/models/fashion/versions/7{end}", "unknown_version"),
    ):
        assert_error(send(make_app(), "GET", path), 404, code)


@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_a_model_that_answers_is_ready(version: str) -> None:
    assert get(f"/v2/models/fashion{version}/ready") == {"name": "fashion", "ready": True}


def test_a_refused_model_is_not_ready_and_says_why() -> None:
    def refused() -> ServedModel:
        raise BundleError("model.safetensors is truncated")

    for path in ("/v2/models/fashion", "/v2/models/fashion/ready"):
        response = send(make_app(refused), "GET", path)
        assert_error(response, 503, "model_unavailable")
        assert "truncated" in response.json()["error"]


def test_a_draining_server_has_no_ready_model() -> None:
    async def scenario() -> None:
        app = make_app()
        async with running(app) as client:
            services(app).core.begin_drain()
            assert_error(await client.get("/v2/models/fashion/ready"), 503, "draining")

    asyncio.run(scenario())


def test_statistics_count_requests_rows_and_batches_of_both_protocols() -> None:
    async def scenario() -> list[Any]:
        async with running(make_app()) as client:
            before = (await client.get("/v2/models/fashion/stats")).json()
            request = as_json(picture(), picture(seed=1), outputs=only("t0", "t1"))
            assert (await client.post(INFER, **request)).status_code == 200
            headers = {"Content-Type": "image/png"}
            await client.post("/v1/predict?tasks=t0", content=picture(), headers=headers)
            assert (await client.post(INFER, **as_json(TRUNCATED))).status_code == 400
            paths = ("fashion/stats", "fashion/versions/1/stats", "stats")
            after = [(await client.get(f"/v2/models/{path}")).json() for path in paths]
            return [before, *after]

    before, *after = asyncio.run(scenario())
    [entry] = before["model_stats"]
    assert (entry["name"], entry["version"]) == ("fashion", "1")
    assert (entry["inference_count"], entry["last_inference"]) == (0, 0)
    assert after[0] == after[1] == after[2]
    [entry] = after[0]["model_stats"]
    assert (entry["inference_count"], entry["execution_count"]) == (5, 2)
    assert entry["last_inference"] > 1.7e12
    counts = {name: total["count"] for name, total in entry["inference_stats"].items()}
    assert counts == {
        **dict.fromkeys(("success", "queue", "compute_input", "compute_infer"), 2),
        **{"fail": 1, "compute_output": 0, "cache_hit": 0, "cache_miss": 0},
    }
    spent = {name: total["ns"] for name, total in entry["inference_stats"].items()}
    parts = ("queue", "compute_input", "compute_infer")
    assert 0 < sum(spent[part] for part in parts) <= spent["success"]
    assert [batch["batch_size"] for batch in entry["batch_stats"]] == [1, 4]
    assert all(batch["compute_infer"]["count"] == 1 for batch in entry["batch_stats"])
