"""Probes."""

from __future__ import annotations

import asyncio
import threading

from torch import Tensor

from model.errors import BundleError
from model.rows import RowBatch
from service.core.served import ServedModel
from tests.service.fakes import fake_forward, make_model
from tests.service.http.apps import assert_error, make_app, running, send, services
from tests.service.pictures import picture


def test_a_healthy_server_is_live_and_ready() -> None:
    assert send(make_app(), "GET", "/v2/health/live").json() == {"live": True}
    assert send(make_app(), "GET", "/v2/health/ready").json() == {"ready": True}


def test_while_loading_it_is_live_but_not_ready() -> None:
    async def scenario() -> None:
        go = threading.Event()

        def slow() -> ServedModel:
            assert go.wait(30)
            return make_model()

        async with running(make_app(slow), ready=False) as client:
            assert (await client.get("/v2/health/live")).status_code == 200
            response = await client.get("/v2/health/ready")
            assert_error(response, 503, "loading")
            go.set()

    asyncio.run(scenario())


def test_a_refused_bundle_leaves_it_live_but_not_ready_and_says_why() -> None:
    def refused() -> ServedModel:
        raise BundleError("model.safetensors is truncated")

    async def scenario() -> None:
        async with running(make_app(refused)) as client:
            assert (await client.get("/v2/health/live")).status_code == 200
            response = await client.get("/v2/health/ready")
            assert_error(response, 503, "model_unavailable")
            assert "model.safetensors is truncated" in response.json()["error"]

    asyncio.run(scenario())


def test_a_draining_server_is_live_but_not_ready() -> None:
    async def scenario() -> None:
        app = make_app()
        async with running(app) as client:
            services(app).core.begin_drain()
            assert (await client.get("/v2/health/live")).status_code == 200
            assert_error(await client.get("/v2/health/ready"), 503, "draining")

    asyncio.run(scenario())


def test_a_dead_engine_is_neither_live_nor_ready_and_nobody_hangs() -> None:
    def die(batch: RowBatch, logits: Tensor) -> None:
        raise SystemExit

    async def scenario() -> None:
        app = make_app()
        async with running(app) as client:
            fake_forward(services(app).core.holder.current()).fault = die
            request = {"content": picture(), "headers": {"Content-Type": "image/png"}}
            responses = await asyncio.gather(
                *(client.post("/v1/predict", **request) for _ in range(5))  # type: ignore[arg-type]
            )
            for response in responses:
                assert_error(response, 503, "engine_down")
            assert_error(await client.get("/v2/health/live"), 503, "engine_down")
            assert_error(await client.get("/v2/health/ready"), 503, "engine_down")

    asyncio.run(scenario())


def test_a_hung_engine_makes_live_fail_and_answers_those_who_wait() -> None:
    async def scenario() -> None:
        release = threading.Event()

        def hang(batch: RowBatch, logits: Tensor) -> None:
            assert release.wait(30)

        app = make_app(engine_stall_ms=300, max_batch_duration_ms=100)
        async with running(app) as client:
            fake_forward(services(app).core.holder.current()).fault = hang
            headers = {"Content-Type": "image/png"}
            response = await client.post("/v1/predict", content=picture(), headers=headers)
            assert_error(response, 503, "engine_down")
            response = await client.get("/v2/health/live")
            assert_error(response, 503, "engine_down")
            assert "engine_stall" in response.json()["error"]
            release.set()
            async with asyncio.timeout(20):
                while (await client.get("/v2/health/live")).is_error:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            response = await client.post("/v1/predict", content=picture(), headers=headers)
            assert response.status_code == 200

    asyncio.run(scenario())
