"""Retries, deadlines and types, against a script; and both clients against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import get_args

import httpx
import pytest

from service.client import (
    Answer,
    Answered,
    AsyncClient,
    Client,
    DeadlinePassedError,
    ImageAnswer,
    ImageFailed,
    Retries,
    ServerRefusedError,
    TaskFailed,
    UnreachableError,
)
from service.client.asking import ImageSource, Level
from service.client.retries import retry_after_s
from service.core.priority import Priority
from service.key_file import make_key, write_keys
from tests.service.client.fake import OK, Script, refusal
from tests.service.pictures import TRUNCATED, picture
from tests.service.server_process import Server, serving


def test_answers_are_typed() -> None:
    with Script(OK).client() as client:
        answer = client.predict([b"x", b"y"], ["t", "u"])
    first, second = answer.images
    assert isinstance(first, ImageAnswer)
    assert isinstance(second, ImageFailed)
    assert isinstance(first["t"], Answered)
    assert isinstance(first["u"], TaskFailed)
    assert first["t"].label == "yes"
    with pytest.raises(KeyError):
        first["v"]


@pytest.mark.parametrize("status", [429, 503])
def test_later_means_later_by_as_much_as_the_server_says(status: int) -> None:
    script = Script(refusal(status, "overloaded", "7"), refusal(status, "overloaded", "2"), OK)
    with script.client() as client:
        assert client.predict([b"x"]).request_id == "r"
    assert script.slept == [7.0, 2.0]
    assert {request.content for request in script.requests if b'"image"' in request.content}


def test_without_retry_after_waits_double_and_chance_adds_a_quarter_at_most() -> None:
    script = Script(refusal(503, "loading"), httpx.ConnectError("refused"), OK)
    with script.client(Retries(chance=lambda: 1.0)) as client:
        client.predict([b"x"])
    assert script.slept == [0.5 * 1.25, 1.0 * 1.25]


def test_attempts_are_bounded_and_the_refusal_is_told() -> None:
    script = Script(refusal(429, "overloaded", "1"))
    with script.client() as client, pytest.raises(ServerRefusedError) as caught:
        client.predict([b"x"])
    assert len(script.requests) == 5
    error = caught.value
    assert (error.status, error.code, error.details) == (429, "overloaded", {"limit": 3})
    assert "no room" in str(error)


def test_a_server_that_asks_for_too_long_a_wait_is_not_asked_again() -> None:
    script = Script(refusal(503, "loading", "3600"))
    with script.client() as client, pytest.raises(ServerRefusedError):
        client.predict([b"x"])
    assert len(script.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 415, 422, 500, 504])
def test_other_refusals_are_final(status: int) -> None:
    script = Script(refusal(status, "code"))
    with script.client() as client, pytest.raises(ServerRefusedError):
        client.predict([b"x"])
    assert len(script.requests) == 1


def test_a_proxys_own_page_is_an_error_too() -> None:
    script = Script(httpx.Response(502, text="<h1>Bad gateway</h1>"))
    with script.client() as client, pytest.raises(ServerRefusedError, match="Bad gateway"):
        client.predict([b"x"])


def test_the_deadline_holds_over_all_attempts_and_the_server_is_told_what_is_left() -> None:
    script = Script(refusal(429, "overloaded", "4"))
    script.seconds_per_request = 1.0
    with script.client() as client, pytest.raises(DeadlinePassedError) as caught:
        client.predict([b"x"], timeout_s=12)
    assert isinstance(caught.value.__cause__, ServerRefusedError)
    told = [float(request.headers["x-request-timeout-ms"]) for request in script.requests]
    assert told == [12_000, 7_000, 2_000]
    assert script.slept == [4.0, 4.0]


def test_a_server_that_never_answers_is_given_up_at_the_deadline() -> None:
    script = Script(httpx.ReadTimeout("too long"))
    script.seconds_per_request = 13.0
    with script.client() as client, pytest.raises(DeadlinePassedError):
        client.predict([b"x"], timeout_s=12)
    assert len(script.requests) == 1


def test_nobody_there_is_told_with_the_address() -> None:
    script = Script(httpx.ConnectError("Connection refused"))
    with script.client() as client, pytest.raises(UnreachableError, match=r"http://fake.*refused"):
        client.tasks()
    assert len(script.requests) == 5


def test_retry_after_may_be_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    found = retry_after_s(refusal(503, "x", soon))
    assert found is not None
    assert 15 < found <= 20
    assert retry_after_s(refusal(503, "x", "Wed, 21 Oct 2015 07:28:00 GMT")) == 0
    assert retry_after_s(refusal(503, "x", "soon")) is None


def test_the_async_client_takes_the_same_steps() -> None:
    script = Script(refusal(429, "overloaded", "7"), httpx.ReadError("reset"), OK)

    async def sleep(seconds: float) -> None:
        script.sleep(seconds)

    async def scenario() -> Answer:
        client = AsyncClient(
            "http://fake",
            clock=script.clock,
            sleep=sleep,
            retries=Retries(chance=lambda: 0.0),
            transport=httpx.MockTransport(script),
        )
        async with client:
            return await client.predict([b"x"])

    assert asyncio.run(scenario()).request_id == "r"
    assert script.slept == [7.0, 1.0]


@pytest.fixture(scope="module")
def guarded(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, str]]:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    key, entry = make_key(["predict"])
    write_keys(path, [entry])
    with serving(repository, "--api-keys-file", str(path)) as server:
        yield server, key


def test_both_clients_against_a_real_server(guarded: tuple[Server, str], tmp_path: Path) -> None:
    server, key = guarded
    path = tmp_path / "photo.png"
    path.write_bytes(picture(seed=1))
    images: list[ImageSource] = [path, picture(seed=2), ("broken.jpg", TRUNCATED)]

    async def asynchronously() -> Answer:
        async with AsyncClient(server.url, key=key) as client:
            return await client.predict(images, ["shoe", "group:kinds"])

    with Client(server.url, key=key) as client:
        answer = client.predict(images, ["shoe", "group:kinds"])
        assert "shoe" in {task.name for task in client.tasks().tasks}
    with Client(server.url, key=key, model="small", version=1) as client:
        assert client.tasks().model.version == 1
    refused = pytest.raises(ServerRefusedError, match="version 2 of model 'small' is not served")
    with Client(server.url, key=key, version=2) as client, refused:
        client.predict(images)
    assert [type(image) for image in answer.images] == [ImageAnswer, ImageAnswer, ImageFailed]
    first = answer.images[0]
    assert isinstance(first, ImageAnswer)
    assert [found.task for found in first.predictions] == ["shoe", "kind"]
    assert isinstance(first["kind"], Answered)
    assert sum((first["kind"].probabilities or {}).values()) == pytest.approx(1)
    again = asyncio.run(asynchronously())
    assert [image.id for image in again.images] == [image.id for image in answer.images]
    with Client(server.url) as client, pytest.raises(ServerRefusedError, match="key_required"):
        client.predict(images)


def test_priority_is_that_of_the_client_unless_the_question_has_its_own() -> None:
    script = Script(OK)
    with Client("http://fake", priority="bulk", transport=httpx.MockTransport(script)) as client:
        client.predict([b"x"])
        client.predict([b"x"], priority="interactive")

    async def asynchronously() -> None:
        transport = httpx.MockTransport(script)
        async with AsyncClient("http://fake", transport=transport) as client:
            await client.predict([b"x"], priority="bulk")
            await client.predict([b"x"])

    asyncio.run(asynchronously())
    told = [request.headers.get("x-request-priority") for request in script.requests]
    assert told == ["bulk", "interactive", "bulk", None]
    assert set(get_args(Level)) == {level.label for level in Priority}


def test_model_and_version_are_asked_for_with_every_question() -> None:
    script = Script(OK)
    transport = httpx.MockTransport(script)
    with Client("http://fake", model="birds", version=3, transport=transport) as client:
        client.predict([b"x"])
    with Client("http://fake", transport=transport) as client:
        client.predict([b"x"])
    named, unnamed = (request.url for request in script.requests)
    assert dict(named.params) == {"model": "birds", "version": "3"}
    assert not unnamed.params
