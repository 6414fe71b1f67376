"""A second port for operators and machines."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from service.server import listen
from tests.service.http.apps import assert_error, make_app, running
from tests.service.server_process import serving

ADMIN_PORT = 9999


@pytest.mark.parametrize(
    ("method", "path", "main", "admin"),
    [
        ("GET", "/v2/health/live", 200, 200),
        ("GET", "/v2/health/ready", 200, 200),
        ("GET", "/metrics", 404, 200),
        ("POST", "/v1/admin/refresh", 404, 200),
        ("POST", "/v2/repository/models/fashion/load", 404, 200),
        ("GET", "/v1/tasks", 200, 404),
        ("GET", "/v2", 200, 404),
        ("GET", "/", 200, 404),
        ("GET", "/openapi.json", 200, 404),
    ],
)
def test_every_path_is_on_its_port_alone_and_probes_on_both(
    method: str, path: str, main: int, admin: int
) -> None:
    async def scenario() -> None:
        app = make_app(admin_port=ADMIN_PORT, open_admin=True)
        async with running(app) as client:
            for port, status in ((8000, main), (ADMIN_PORT, admin)):
                response = await client.request(method, f"http://test:{port}{path}")
                if status == 404:
                    assert_error(response, 404, "not_found")
                else:
                    assert response.status_code == status, (port, response.text)

    asyncio.run(scenario())


def test_without_the_setting_all_is_on_one_port() -> None:
    async def scenario() -> list[int]:
        async with running(make_app()) as client:
            return [(await client.get(path)).status_code for path in ("/metrics", "/v1/tasks")]

    assert asyncio.run(scenario()) == [200, 200]


def test_the_process_listens_on_both(repository: Path) -> None:
    with serving(repository, "--admin-port", "0", ready=False) as server:
        admin = server.wait_for("listening")["admin_url"]
        assert admin != server.url
        assert httpx.get(f"{admin}/metrics").status_code == 200
        assert_error(httpx.get(f"{server.url}/metrics"), 404, "not_found")
        for url in (server.url, admin):
            assert httpx.get(f"{url}/v2/health/live").status_code == 200


def test_a_port_is_shared_only_where_both_ask_for_it(caplog: pytest.LogCaptureFixture) -> None:
    with listen("127.0.0.1", 0, reuse_port=True) as first:
        port = first.getsockname()[1]
        with listen("127.0.0.1", port, reuse_port=True):
            pass
        with pytest.raises(SystemExit):
            listen("127.0.0.1", port)
    assert str(port) in caplog.text


def test_two_processes_answer_on_one_port(repository: Path) -> None:
    shared = ("--reuse-port", "true")
    with serving(repository, *shared) as first:
        port = str(httpx.URL(first.url).port)
        with serving(repository, *shared, "--port", port) as second:
            assert second.url == first.url
            for _ in range(10):  # each on a connection of its own
                assert httpx.get(f"{first.url}/v2/health/ready").status_code == 200
        for _ in range(10):
            assert httpx.get(f"{first.url}/v2/health/ready").status_code == 200
