"""A client that goes away takes its rows along."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.types import Message, Scope
from torch import Tensor

from model.rows import RowBatch
from service.core.errors import ClientGoneError
from service.http.disconnect import unless_disconnected
from tests.service.fakes import fake_forward
from tests.service.http.apps import make_app, running, services
from tests.service.pictures import picture


def scope() -> Scope:
    return {
        "type": "http",
        "method": "POST",
        "path": "/v1/predict",
        "raw_path": b"/v1/predict",
        "query_string": b"tasks=t0,t1",
        "headers": [(b"content-type", b"image/png")],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("test", 80),
        "client": ("test", 1),
        "root_path": "",
    }


def receiving(messages: Iterator[Message]) -> Any:
    async def receive() -> Message:
        return next(messages)

    return receive


async def no_answer_expected(message: Message) -> None:
    """uvicorn drops what is sent to a closed connection."""


@pytest.mark.parametrize(
    ("body", "stage"),
    [
        ([{"type": "http.request", "body": b"ab", "more_body": True}], "read"),
        ([{"type": "http.request", "body": picture(), "more_body": False}], "forward"),
    ],
)
def test_what_was_asked_is_dropped_counted_and_never_hurts_others(
    body: list[Message], stage: str
) -> None:
    async def scenario() -> str:
        release, entered = threading.Event(), threading.Event()

        def hold(batch: RowBatch, logits: Tensor) -> None:
            entered.set()
            assert release.wait(30)

        app = make_app()
        async with running(app) as client:
            core = services(app).core
            fake_forward(core.holder.current()).fault = hold
            gone = asyncio.Event()
            messages = iter(body)

            async def receive() -> Message:
                try:
                    return next(messages)
                except StopIteration:
                    await gone.wait()
                    return {"type": "http.disconnect"}

            asking = asyncio.create_task(app(scope(), receive, no_answer_expected))
            if stage == "forward":
                assert await asyncio.to_thread(entered.wait, 20)
            gone.set()
            await asking
            assert core.scheduler.unanswered_requests == 0
            release.set()
            mate = await client.post(
                "/v1/predict", content=picture(), headers={"Content-Type": "image/png"}
            )
            assert mate.status_code == 200
            return (await client.get("/metrics")).text

    text = asyncio.run(scenario())
    assert f'taskroute_cancelled_total{{stage="{stage}"}} 1.0' in text
    assert 'route="/v1/predict",status="499"} 1.0' in text
    if stage == "forward":
        assert 'taskroute_rows_total{model="fashion",outcome="cancelled",task="t1"} 1.0' in text


def test_work_that_is_done_first_is_answered() -> None:
    async def scenario() -> int:
        async def work() -> int:
            return 7

        never = asyncio.Event()

        async def receive() -> Message:
            await never.wait()
            raise AssertionError

        return await unless_disconnected(receive, work())

    assert asyncio.run(scenario()) == 7


def test_work_is_cancelled_when_the_client_goes_and_when_the_server_gives_up() -> None:
    async def scenario() -> list[str]:
        seen = []

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        gone = receiving(iter([{"type": "http.request"}, {"type": "http.disconnect"}]))
        with pytest.raises(ClientGoneError):
            await unless_disconnected(gone, work())

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        serving = asyncio.create_task(unless_disconnected(receive, work()))
        await asyncio.sleep(0.01)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        return seen

    assert asyncio.run(scenario()) == ["cancelled", "cancelled"]
