"""GET /v1/tasks, /v1/model, /v1/limits."""

from __future__ import annotations

import asyncio

from model.errors import BundleError
from service.core.served import ServedModel
from tests.service.http.apps import assert_error, make_app, running, send


def refused() -> ServedModel:
    raise BundleError("model.safetensors is truncated")


def test_tasks_are_listed_with_what_a_caller_needs() -> None:
    body = send(make_app(), "GET", "/v1/tasks").json()
    assert body["model"]["version"] == 1
    assert body["groups"] == {"even": ["t0", "t2"], "odd": ["t1"], "kinds": ["kind"]}
    assert body["tasks"][0] == {
        "name": "t0",
        "group": "even",
        "description": "question 0",
        "classes": ["no", "yes"],
        "threshold": 0.55,
        "calibrated": True,
    }
    assert body["tasks"][3]["threshold"] is None
    assert body["tasks"][3]["classes"] == ["boot", "coat", "bag", "shirt"]


def test_the_model_says_what_is_served_and_how() -> None:
    body = send(make_app(), "GET", "/v1/model").json()
    assert (body["name"], body["state"], body["reason"]) == ("fashion", "ready", None)
    assert (body["version"], body["digest"]) == (1, f"sha256:{1:064x}")
    assert (body["strategy"], body["precision"], body["device"]) == ("fake", "float32", "cpu")
    assert body["preprocess"]["height"] == 28
    assert body["preprocess_id"].startswith("pixels-v")
    assert body["family"] == "routed"
    assert body["backbone"]["arch"] == "vgg11_bn"
    assert body["engine"]["cpus"] == 2
    assert body["engine"]["batch_limit_rows"] == 256


def test_without_a_model_the_reason_is_told() -> None:
    async def scenario() -> None:
        async with running(make_app(refused)) as client:
            body = (await client.get("/v1/model")).json()
            assert body["state"] == "refused"
            assert body["reason"] == "model.safetensors is truncated"
            assert body["version"] is None
            response = await client.get("/v1/tasks")
            assert assert_error(response, 503, "model_unavailable") == {"reason": "bad_bundle"}
            assert "truncated" in response.json()["error"]

    asyncio.run(scenario())


def test_the_limits_in_force() -> None:
    body = send(make_app(max_images=3, max_queue_rows=500), "GET", "/v1/limits").json()
    assert body["max_images"] == 3
    assert body["max_rows"] == 500
    assert body["image_formats"] == ["JPEG", "PNG", "WEBP"]
    assert "multipart/form-data" in body["media_types"]
    assert body["request_timeout_ms"] == 10_000
