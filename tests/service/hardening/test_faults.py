"""Faults from one end to the other: no hang, no wrong answer, no healthy probe while it cannot
answer. What the core does in detail is in ``tests/service/core/test_rules.py``."""

from __future__ import annotations

import asyncio
import math
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from starlette.types import Message
from torch import Tensor

from model.repository import Repository
from model.rows import RowBatch
from service.core.serving import ServingCore
from tests.service.fakes import fake_forward
from tests.service.hardening.wire import PREDICT, request
from tests.service.http.apps import assert_error, make_app, running, services
from tests.service.http.test_disconnect import no_answer_expected, scope
from tests.service.pictures import picture
from tests.service.server_process import Server, serving

Fault = Callable[[RowBatch, Tensor], None]
RAW = {"Content-Type": "image/png"}


def with_fault(fault: Fault, scenario: Callable[[httpx.AsyncClient, ServingCore], Any]) -> None:
    """Run ``scenario`` on an app whose network does ``fault`` in every batch."""

    async def run() -> None:
        app = make_app(engine_stall_ms=400, max_batch_duration_ms=100)
        async with running(app) as client:
            core = services(app).core
            fake_forward(core.holder.current()).fault = fault
            await scenario(client, core)

    asyncio.run(run())


async def ask(client: httpx.AsyncClient, tasks: str = "t0,t1,t2,kind") -> httpx.Response:
    return await client.post(f"{PREDICT}?tasks={tasks}", content=picture(), headers=RAW)


async def probes(client: httpx.AsyncClient) -> list[int]:
    kinds = ("live", "ready")
    return [(await client.get(f"/v2/health/{kind}")).status_code for kind in kinds]


# -- memory ---------------------------------------------------------------------------------------


def test_out_of_memory_halves_the_batch_and_every_row_is_answered() -> None:
    sizes: list[int] = []

    def no_room(batch: RowBatch, logits: Tensor) -> None:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    async def scenario(client: httpx.AsyncClient, core: ServingCore) -> None:
        response = await ask(client)
        assert response.status_code == 200
        [result] = response.json()["results"]
        assert all("probability" in prediction for prediction in result["predictions"])
        assert sizes == [4, 2, 2]
        assert core.scheduler.row_limit.rows == 2
        assert await probes(client) == [200, 200]

    with_fault(no_room, scenario)


def test_one_row_that_never_fits_gets_an_error_alone() -> None:
    def no_room_for_t1(batch: RowBatch, logits: Tensor) -> None:
        if 1 in batch.task_index:
            raise MemoryError

    async def scenario(client: httpx.AsyncClient, core: ServingCore) -> None:
        response = await ask(client)
        assert response.status_code == 200
        [result] = response.json()["results"]
        failed = [row.get("code") for row in result["predictions"]]
        assert failed == [None, "out_of_memory", None, None]
        assert_error(await ask(client, "t1"), 500, "out_of_memory")
        assert await probes(client) == [200, 200]

    with_fault(no_room_for_t1, scenario)


def test_memory_for_nothing_at_all_ends_the_engine_and_both_probes_fail() -> None:
    def no_room(batch: RowBatch, logits: Tensor) -> None:
        raise MemoryError

    async def scenario(client: httpx.AsyncClient, core: ServingCore) -> None:
        assert_error(await ask(client), 503, "engine_down")
        assert await probes(client) == [503, 503]

    with_fault(no_room, scenario)


# -- numbers that are none ------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_is_never_an_answer(wrong: float) -> None:
    def spoil(batch: RowBatch, logits: Tensor) -> None:
        logits[batch.task_index == 1] = wrong

    async def scenario(client: httpx.AsyncClient, core: ServingCore) -> None:
        response = await ask(client)
        [result] = response.json()["results"]
        assert [row.get("code") for row in result["predictions"]] == [
            *(None, "non_finite_logits", None, None)
        ]
        assert "NaN" not in response.text
        assert_error(await ask(client, "t1"), 500, "non_finite_logits")

    with_fault(spoil, scenario)


def test_weights_that_are_not_numbers_are_refused_at_the_start(
    repository: Path, tmp_path: Path
) -> None:
    root = tmp_path / "models"
    shutil.copytree(repository, root)
    network = Repository(root).read("small").network()
    with torch.no_grad():
        next(network.heads.parameters())[0] = math.nan
    Repository(root).publish("small", network, {}, "# small\n")
    with serving(root, ready=False) as server:
        until = time.monotonic() + 60
        while httpx.get(f"{server.url}/v1/model").json()["state"] != "refused":
            assert time.monotonic() < until
            time.sleep(0.05)
        ready = httpx.get(f"{server.url}/v2/health/ready")
        assert_error(ready, 503, "model_unavailable")
        assert "NaN or infinity" in ready.json()["error"]
        assert httpx.get(f"{server.url}/v2/health/live").status_code == 200
        answer = httpx.post(f"{server.url}{PREDICT}", content=picture(), headers=RAW)
        assert_error(answer, 503, "model_unavailable")


# -- the engine -----------------------------------------------------------------------------------


def test_a_killed_engine_thread_fails_live_and_everybody_is_told() -> None:
    def die(batch: RowBatch, logits: Tensor) -> None:
        raise SystemExit  # ends the thread, as nothing that a batch should raise does

    async def scenario(client: httpx.AsyncClient, core: ServingCore) -> None:
        for response in await asyncio.gather(*(ask(client) for _ in range(8))):
            assert_error(response, 503, "engine_down")
        assert await probes(client) == [503, 503]
        assert_error(await ask(client), 503, "engine_down")

    with_fault(die, scenario)


def test_a_hung_engine_fails_live_within_a_bound_and_recovers_when_it_moves() -> None:
    release = threading.Event()

    def hang(batch: RowBatch, logits: Tensor) -> None:
        assert release.wait(60)

    async def scenario(client: httpx.AsyncClient, core: ServingCore) -> None:
        begun = time.monotonic()
        for response in await asyncio.gather(*(ask(client) for _ in range(4))):
            assert_error(response, 503, "engine_down")
        assert time.monotonic() - begun < 10  # 0.4 s, on a machine that has time
        assert await probes(client) == [503, 503]
        release.set()
        async with asyncio.timeout(20):
            while await probes(client) != [200, 200]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (await ask(client)).status_code == 200

    with_fault(hang, scenario)


# -- clients that go ------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["read", "decode", "queue", "forward"])
def test_a_client_that_goes_is_forgotten_at_every_stage(stage: str) -> None:
    release, entered = threading.Event(), threading.Event()

    def hold(batch: RowBatch, logits: Tensor) -> None:
        entered.set()
        assert release.wait(60)

    async def run() -> str:
        app = make_app(decode_threads=1, max_batch_delay_ms=0, max_batch_rows=4)
        async with running(app) as client:
            core = services(app).core
            busy: list[asyncio.Task[Any]] = []
            if stage == "decode":
                busy.append(asyncio.create_task(core.decoder.run(release.wait, 60)))
            if stage in ("queue", "forward"):
                fake_forward(core.holder.current()).fault = hold
            if stage == "queue":
                busy.append(asyncio.create_task(ask(client)))
                assert await asyncio.to_thread(entered.wait, 20)
            waiting = core.scheduler.unanswered_requests
            leave = asyncio.Event()
            body = picture()[:9] if stage == "read" else picture()
            first: list[Message] = [
                {"type": "http.request", "body": body, "more_body": stage == "read"}
            ]

            async def receive() -> Message:
                if first:
                    return first.pop()
                await leave.wait()
                return {"type": "http.disconnect"}

            asking = asyncio.create_task(app(scope(), receive, no_answer_expected))
            async with asyncio.timeout(20):
                if stage == "forward":
                    assert await asyncio.to_thread(entered.wait, 20)
                while core.scheduler.unanswered_requests == waiting and stage != "read":  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
                if stage == "queue":
                    while core.scheduler.queue_rows == 0:  # noqa: ASYNC110
                        await asyncio.sleep(0.005)
                    await asyncio.sleep(0.05)  # decoded, and behind the batch that is held
            leave.set()
            await asking
            assert core.scheduler.unanswered_requests == waiting
            release.set()
            await asyncio.gather(*busy)
            assert (await ask(client)).status_code == 200
            assert await probes(client) == [200, 200]
            return (await client.get("/metrics")).text

    text = asyncio.run(run())
    assert f'taskroute_cancelled_total{{stage="{stage}"}} 1.0' in text
    assert 'route="/v1/predict",status="499"} 1.0' in text


@pytest.fixture(scope="module")
def server(repository: Path) -> Any:
    with serving(repository, "--max-images", "40") as found:
        yield found


def connect(server: Server) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def unanswered(server: Server) -> float:
    """Requests in flight but the one that asks."""
    return server.metric("taskroute_http_requests_in_flight") - 1


def test_clients_that_go_while_the_answer_is_written_leave_nothing_behind(server: Server) -> None:
    raw = request("/static/swagger-ui-bundle.js", b"", {}, method="GET")  # a megabyte
    for _ in range(20):
        with connect(server) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(raw)
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
    until = time.monotonic() + 20
    while unanswered(server):
        assert time.monotonic() < until
        time.sleep(0.02)
    answer = httpx.post(f"{server.url}{PREDICT}", content=picture(), headers=RAW)
    assert answer.status_code == 200
    assert not [line for line in server.log if line["level"] == "error"]


def test_clients_that_go_anywhere_within_the_upload_leave_nothing_behind(server: Server) -> None:
    raw = request(PREDICT, picture(size=(200, 200)), RAW)
    for end in range(0, len(raw), len(raw) // 25):
        with connect(server) as connection:
            connection.sendall(raw[:end])
    until = time.monotonic() + 20
    while unanswered(server):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200
