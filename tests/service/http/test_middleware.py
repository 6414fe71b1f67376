"""Request ids, logs and counts, body limits."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from service.http.middleware.body_limit import SHORT_BYTES
from tests.service.http.apps import assert_error, make_app, running, send, services
from tests.service.pictures import picture

RAW = {"Content-Type": "image/png"}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("order-66_a.b:c", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("two words", False),
        ("line\tbreak", False),
        ("", False),
    ],
)
def test_a_decent_request_id_is_kept_and_anything_else_replaced(given: str, kept: bool) -> None:
    response = send(make_app(), "GET", "/v1/limits", headers={"X-Request-ID": given})
    found = response.headers["x-request-id"]
    assert (found == given) is kept
    assert kept or len(found) == 32


def request_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [
        record.__dict__["fields"] for record in caplog.records if record.name == "service.access"
    ]


def test_one_log_line_a_request_with_what_matters_and_no_image(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    send(
        make_app(),
        "POST",
        "/v1/predict",
        content=picture(),
        params={"tasks": "t0,kind"},
        headers=RAW | {"X-Request-ID": "me-1"},
    )
    [line] = request_lines(caplog)
    assert line["duration_ms"] > 0
    for name in ("duration_ms", "decode_ms", "queue_ms", "compute_ms"):
        assert line.pop(name) >= 0
    assert line == {
        "request_id": "me-1",
        "method": "POST",
        "path": "/v1/predict",
        "status": 200,
        "images": 1,
        "tasks": 2,
        "rows": 2,
        "bundle": f"sha256:{1:064x}",
    }


def test_errors_are_logged_with_their_code(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    send(make_app(), "POST", "/v1/predict", content=b"", headers=RAW)
    [line] = request_lines(caplog)
    assert (line["status"], line["code"]) == (422, "invalid_image")


def test_probes_are_logged_only_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    send(make_app(), "GET", "/v2/health/live")
    assert request_lines(caplog) == []


def test_requests_are_counted_by_route_template_and_never_by_a_made_up_path_or_method() -> None:
    async def scenario() -> str:
        app = make_app()
        async with running(app) as client:
            await client.get("/made/up")
            await client.request("BREW", "/v1/limits")
            await client.get("/v1/limits")
            return (await client.get("/metrics")).text

    text = asyncio.run(scenario())
    for labels in (
        'method="GET",route="unmatched",status="404"',
        'method="other",route="/v1/limits",status="405"',
        'method="GET",route="/v1/limits",status="200"',
    ):
        assert f"taskroute_http_requests_total{{{labels}}} 1.0" in text
    assert "made" not in text
    assert "BREW" not in text


def test_a_declared_body_over_the_limit_is_refused_unread() -> None:
    async def scenario() -> None:
        async with running(make_app(max_body_bytes=1000, max_image_bytes=1000)) as client:
            reads = 0

            async def body() -> Any:
                nonlocal reads
                reads += 1
                yield bytes(1001)

            headers = RAW | {"Content-Length": "1001"}
            response = await client.post("/v1/predict", content=body(), headers=headers)
            assert assert_error(response, 413, "body_too_large") == {"max_body_bytes": 1000}
            assert reads == 0

    asyncio.run(scenario())


def test_a_chunked_body_is_cut_off_at_the_limit() -> None:
    async def scenario() -> None:
        async with running(make_app(max_body_bytes=10_000, max_image_bytes=10_000)) as client:
            reads = 0

            async def endless() -> Any:
                nonlocal reads
                while True:
                    reads += 1
                    yield bytes(1000)

            for content_type in (
                "image/png",
                "application/json",
                "multipart/form-data; boundary=x",
            ):
                reads = 0
                response = await client.post(
                    "/v1/predict", content=endless(), headers={"Content-Type": content_type}
                )
                if content_type.startswith("multipart"):  # zeros are no multipart body
                    assert_error(response, 400, "malformed_request")
                else:
                    assert_error(response, 413, "body_too_large")
                assert reads <= 11

    asyncio.run(scenario())


@pytest.mark.parametrize("path", ["/v1/admin/pin", "/v2/repository/index", "/nowhere"])
def test_a_body_without_images_is_short(path: str) -> None:
    response = send(make_app(), "POST", path, content=bytes(SHORT_BYTES + 1))
    assert assert_error(response, 413, "body_too_large") == {"max_body_bytes": SHORT_BYTES}


def test_a_body_without_images_that_does_not_come_is_not_waited_for() -> None:
    async def scenario() -> None:
        app = make_app(max_request_timeout_ms=30, request_timeout_ms=30)
        async with running(app) as client:

            async def stalled() -> Any:
                yield b"{"
                await asyncio.Event().wait()

            async with asyncio.timeout(20):
                response = await client.post("/v2/repository/index", content=stalled())
            assert "max_request_timeout_ms" in response.json()["error"]
            assert assert_error(response, 504, "deadline_exceeded") == {"stage": "read"}

    asyncio.run(scenario())


@pytest.mark.parametrize("length", ["many", "-1", "1.5"])
def test_a_content_length_that_is_no_number(length: str) -> None:
    response = send(make_app(), "GET", "/v1/limits", headers={"Content-Length": length})
    assert_error(response, 400, "malformed_request")


def test_the_sum_of_bodies_in_flight_is_bounded_and_given_back() -> None:
    async def scenario() -> None:
        app = make_app(max_body_bytes=3000, max_image_bytes=3000, max_inflight_body_bytes=5000)
        async with running(app) as client:
            counted, go = asyncio.Event(), asyncio.Event()

            async def slow() -> Any:
                yield bytes(2900)
                counted.set()  # asked for more: what was sent has been taken in
                await go.wait()

            held = asyncio.create_task(client.post("/v1/predict", content=slow(), headers=RAW))
            await counted.wait()
            refused = await client.post("/v1/predict", content=bytes(2200), headers=RAW)
            assert assert_error(refused, 429, "overloaded") == {"reason": "body_bytes"}
            assert refused.headers["retry-after"] == "1"
            go.set()
            assert_error(await held, 415, "unsupported_image_type")
            again = await client.post("/v1/predict", content=bytes(2200), headers=RAW)
            assert_error(again, 415, "unsupported_image_type")
            assert 'shed_total{reason="body_bytes"} 1.0' in services(app).metrics.render().decode()

    asyncio.run(scenario())


@pytest.mark.parametrize(("size", "pieces"), [(32 * 1024, 4), (33 * 1024, 0)])
def test_while_draining_a_small_body_is_read_before_the_answer_that_ends_its_connection(
    size: int, pieces: int
) -> None:
    async def scenario() -> None:
        app = make_app()
        async with running(app) as client:
            before = await client.get("/v2/health/live")
            assert "connection" not in before.headers
            services(app).core.begin_drain()
            read = 0

            async def body() -> Any:
                nonlocal read
                for _ in range(4):
                    read += 1
                    yield bytes(size // 4)

            headers = RAW | {"Content-Length": str(size)}
            response = await client.post("/v1/predict", content=body(), headers=headers)
            assert_error(response, 503, "draining")
            assert (response.headers["connection"], read) == ("close", pieces)

    asyncio.run(scenario())
