"""The real thing: a server process on loopback with a real, small model."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.pictures import NOT_AN_IMAGE, TRUNCATED, huge_png, picture
from tests.service.server_process import Server, answers, serving
from tests.service.small_model import TASKS

ASKING = Path(__file__).parents[1] / "asking.py"
NAMES = [task.name for task in TASKS]


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with serving(repository, "--max-images", "40") as found:
        yield found


def test_twenty_clients_with_mixed_tasks_get_what_each_gets_alone(server: Server) -> None:
    chosen = random.Random(7)
    requests = []
    for client in range(20):
        tasks = chosen.sample(NAMES, chosen.randint(1, len(NAMES)))
        images = [picture(seed=client * 10 + i) for i in range(chosen.randint(1, 4))]
        files = [("image", (f"{i}.png", image, "image/png")) for i, image in enumerate(images)]
        requests.append({"files": files, "data": {"tasks": ",".join(tasks)}})
    url = f"{server.url}/v1/predict"

    async def together(rounds: int) -> list[list[dict[str, Any]]]:
        async with httpx.AsyncClient(timeout=60) as client:

            async def one(request: dict[str, Any]) -> list[dict[str, Any]]:
                found = [await client.post(url, **request) for _ in range(rounds)]
                return [response.raise_for_status().json() for response in found]

            return await asyncio.gather(*(one(request) for request in requests))

    alone = [httpx.post(url, **request).json() for request in requests]  # type: ignore[arg-type]
    batches = server.metric("taskroute_batches_total")
    crowd = asyncio.run(together(rounds=5))
    assert server.metric("taskroute_batches_total") - batches < 100, "nothing was batched together"
    for expected, found in zip(alone, crowd, strict=True):
        for body in found:
            for mine, other in zip(answers(expected), answers(body), strict=True):
                assert list(mine) == list(other)
                for task, numbers in mine.items():
                    assert other[task] == pytest.approx(numbers, abs=1e-5)
    different = {json.dumps(answers(body)) for body in alone}
    assert len(different) == 20, "the model answers everything alike: the test shows nothing"


def test_the_three_forms_agree(server: Server) -> None:
    url, photo = f"{server.url}/v1/predict", picture(seed=3)
    form = httpx.post(url, files={"image": photo}, data={"tasks": ["shoe", "kind"]})
    raw = httpx.post(f"{url}?tasks=shoe,kind", content=photo, headers={"Content-Type": "image/png"})
    content = base64.b64encode(photo).decode()
    as_json = httpx.post(url, json={"images": [{"content": content}], "tasks": ["shoe", "kind"]})
    assert answers(form.json()) == answers(raw.json()) == answers(as_json.json())
    assert list(answers(form.json())[0]) == ["shoe", "kind"]


@pytest.mark.parametrize(
    ("content", "tasks", "status", "code"),
    [
        (b"", "t0", 422, "invalid_image"),
        (TRUNCATED, "t0", 422, "invalid_image"),
        (NOT_AN_IMAGE, "t0", 415, "unsupported_image_type"),
        (huge_png(), "t0", 413, "image_too_large"),
        (bytes(33_000_000), "t0", 413, "body_too_large"),
        (picture(), "sho", 422, "unknown_task"),
        (picture(), "t0,t0", 422, "duplicate_task"),
        (picture(), "", 422, "no_tasks"),
    ],
    ids=["empty", "truncated", "text", "100 MP", "33 MB", "unknown", "duplicate", "no tasks"],
)
def test_bad_input_over_the_wire(
    server: Server, content: bytes, tasks: str, status: int, code: str
) -> None:
    url, good = f"{server.url}/v1/predict", picture(seed=1)
    headers = {"Content-Type": "image/png"}
    before = answers(httpx.post(url, content=good, headers=headers).json())
    response = httpx.post(url, content=content, params={"tasks": tasks}, headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert answers(httpx.post(url, content=good, headers=headers).json()) == before
    assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200


def test_a_client_that_hangs_up_is_noticed(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    before = server.metric('taskroute_cancelled_total{stage="read"}')
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
            b"Content-Length: 1000\r\n\r\nhalf"
        )
        time.sleep(0.1)
    until = time.monotonic() + 20
    while server.metric('taskroute_cancelled_total{stage="read"}') == before:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert httpx.get(f"{server.url}/v2/health/live").status_code == 200


def test_the_log_has_a_line_for_each_request_and_no_image(server: Server) -> None:
    photo = picture(seed=5)
    headers = {"Content-Type": "image/png", "X-Request-ID": "find-me"}
    httpx.post(f"{server.url}/v1/predict", content=photo, headers=headers)
    until = time.monotonic() + 20
    while not (lines := [x for x in server.log if x.get("request_id") == "find-me"]):
        assert time.monotonic() < until
        time.sleep(0.02)
    [line] = lines
    assert (line["status"], line["images"], line["rows"]) == (200, 1, len(NAMES))
    assert line["bundle"].startswith("sha256:")


def test_sigterm_answers_what_was_let_in_and_ends_cleanly(repository: Path) -> None:
    patient = ("--request-timeout-ms", "100000", "--drain-timeout-ms", "100000")
    with serving(repository, "--max-batch-rows", "16", "--max-images", "200", *patient) as server:
        url = f"{server.url}/v1/predict"
        files = [("image", (f"{i}", picture(seed=i), "image/png")) for i in range(100)]
        responses: list[httpx.Response] = []

        def ask() -> None:
            responses.append(httpx.post(url, files=files, timeout=120))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 30
        # Four requests of 1,200 rows: when more than 3,600 wait or are answered, all are let in.
        while sum(server.metric(f"taskroute_{name}") for name in ("queue_rows", "rows_total")) < (
            4000
        ):
            assert time.monotonic() < until
        assert len(responses) < 4, "answered before the signal: the test shows nothing"
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(120)
        code = server.process.wait(60)
        assert [response.status_code for response in responses] == [200] * 4, responses[0].text
        assert all(len(response.json()["results"]) == 100 for response in responses)
        assert code == 0
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{server.url}/v2/health/live")


def test_sigterm_under_load_breaks_no_connection(repository: Path) -> None:
    with serving(repository) as server:
        command: list[str | Path] = [sys.executable, ASKING, server.url, "16", "60"]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as clients:
            assert clients.stdin is not None
            assert clients.stderr is not None
            clients.stdin.write(picture(seed=1))
            clients.stdin.close()
            clients.stdin = None
            assert clients.stderr.readline() == b"asking\n"
            server.process.send_signal(signal.SIGTERM)
            output, errors = clients.communicate(timeout=120)
        statuses = json.loads(output)
        assert statuses.pop("200") >= 16
        assert statuses.pop("refused") == 16, errors  # each ended by an answer, and came back
        assert statuses.keys() <= {"503"}, errors
        assert server.process.wait(60) == 0


def test_sigterm_with_no_time_left_says_draining_instead_of_hanging_up(repository: Path) -> None:
    flags = ("--max-batch-rows", "4", "--max-images", "200", "--drain-timeout-ms", "0")
    with serving(repository, *flags) as server:
        files = [("image", (f"{i}", picture(seed=i), "image/png")) for i in range(200)]
        responses: list[httpx.Response] = []

        def ask() -> None:
            responses.append(httpx.post(f"{server.url}/v1/predict", files=files, timeout=60))

        thread = threading.Thread(target=ask)
        thread.start()
        until = time.monotonic() + 30
        while server.metric("taskroute_queue_rows") < 1000:
            assert time.monotonic() < until
        server.process.send_signal(signal.SIGTERM)
        thread.join(60)
        assert responses[0].status_code == 503
        assert responses[0].json()["code"] == "draining"
        server.process.wait(60)


def test_sigterm_does_not_wait_for_a_repository_that_hangs(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    os.mkfifo(tmp_path / "small" / "LATEST")  # to open it waits for a writer that never comes
    with serving(tmp_path, ready=False) as server:
        assert httpx.get(f"{server.url}/v2/health/ready").json()["code"] == "loading"
        server.process.send_signal(signal.SIGTERM)
        try:
            assert server.process.wait(20) == 0
        finally:
            server.process.kill()
        server.wait_for("a load that nobody waits for any more is left")


def test_a_port_of_grpc_that_is_taken_ends_the_process_with_a_failure(repository: Path) -> None:
    pytest.importorskip("grpc")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "service", "--repository", str(repository)]
        command += ["--model", "small", "--port", "0", "--grpc-port", str(port)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1, port {port} (grpc_port)" in ended.stderr
