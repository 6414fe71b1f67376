"""Who needs a key for what, and that nothing is read of those who have none."""

from __future__ import annotations

import asyncio
import http.client
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.http.middleware.keys import needed_scope
from service.key_file import KeyFileError, make_key, write_keys
from tests.service.http.apps import assert_error, make_app, running
from tests.service.pictures import picture
from tests.service.server_process import Server, serving

RAW = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def predict_and_admin() -> tuple[Any, Any]:
    return make_key(["predict"]), make_key(["admin"])


@pytest.fixture
def key_file(tmp_path: Path, predict_and_admin: tuple[Any, Any]) -> Path:
    path = tmp_path / "keys.json"
    write_keys(path, [entry for _, entry in predict_and_admin])
    return path


def ask(key_file: Path, method: str, path: str, **kwargs: Any) -> httpx.Response:
    async def scenario() -> httpx.Response:
        async with running(make_app(api_keys_file=key_file)) as client:
            return await client.request(method, path, **kwargs)

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/", None),
        ("/v2/health/live", None),
        ("/v2/health/ready", None),
        ("/v2/models/fashion/ready", None),
        ("/v2/models/fashion/versions/3/ready", None),
        ("/metrics", None),
        ("/docs", None),
        ("/openapi.json", None),
        ("/static/page.js", None),
        ("/v2/models/a/b/ready", "predict"),
        ("/v2/models/fashion/infer", "predict"),
        ("/v1/predict", "predict"),
        ("/v1/tasks", "predict"),
        ("/v2", "predict"),
        ("/nothing", "predict"),
        ("//v2/health/live", "predict"),
        ("/v2/repository/index", "predict"),
        ("/v2/repository/models/fashion/load", "admin"),
        ("/v1/admin/rollback", "admin"),
        ("/v1/admin", "admin"),
    ],
)
def test_the_scope_of_every_path(path: str, scope: str | None) -> None:
    assert needed_scope(path) == scope


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
def test_both_headers_let_in(
    key_file: Path,
    predict_and_admin: tuple[Any, Any],
    header: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    (key, entry), _ = predict_and_admin
    value = f"bearer  {key}" if header == "Authorization" else key
    response = ask(
        key_file, "POST", "/v1/predict", content=picture(), headers=RAW | {header: value}
    )
    assert response.status_code == 200
    [line] = [r.__dict__["fields"] for r in caplog.records if r.name == "service.access"]
    assert line["key"] == entry.id
    assert not [r for r in caplog.records if key.rsplit("_", 1)[1] in str(r.__dict__)]


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "key_required"),
        ({"Authorization": "Basic dTpw"}, "key_required"),
        ({"Authorization": "Bearer "}, "key_required"),
        ({"Authorization": "Bearer tr_0123456789ab_secret-thing"}, "key_unknown"),
        ({"X-API-Key": "secret-thing"}, "key_unknown"),
    ],
)
def test_without_a_right_key_nothing_is_answered_or_logged_of_it(
    key_file: Path, headers: dict[str, str], code: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    response = ask(key_file, "POST", "/v1/predict", content=picture(), headers=RAW | headers)
    assert_error(response, 401, code)
    assert response.headers["www-authenticate"] == "Bearer"
    assert "secret-thing" not in response.text
    assert not [r for r in caplog.records if "secret-thing" in str(r.__dict__)]


def test_a_key_for_predicting_may_not_administer_and_the_other_way_round(
    key_file: Path, predict_and_admin: tuple[Any, Any]
) -> None:
    (key, _), (admin, _) = predict_and_admin
    response = ask(key_file, "POST", "/v1/admin/anything", headers={"X-API-Key": key})
    assert assert_error(response, 403, "scope_missing") == {"needed": "admin"}
    response = ask(key_file, "GET", "/v1/tasks", headers={"X-API-Key": admin})
    assert assert_error(response, 403, "scope_missing") == {"needed": "predict"}
    response = ask(key_file, "POST", "/v1/admin/anything", headers={"X-API-Key": admin})
    assert response.status_code != 403


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/metrics", "/docs"])
def test_probes_metrics_and_pages_need_no_key(key_file: Path, path: str) -> None:
    assert ask(key_file, "GET", path).status_code == 200


@pytest.fixture(scope="module")
def guarded(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    write_keys(path, [make_key(["predict"])[1]])
    with serving(repository, "--api-keys-file", str(path)) as server:
        yield server


def bytes_read(server: Server) -> int:
    text = Path(f"/proc/{server.process.pid}/io").read_text()
    return int(text.split("rchar:")[1].split()[0])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="no /proc/PID/io to count reads in")
def test_a_100_mb_upload_without_a_key_is_refused_unread(guarded: Server) -> None:
    host, port = guarded.url.removeprefix("http://").split(":")
    httpx.get(f"{guarded.url}/v2/health/live")  # whatever a first request reads is read
    before = bytes_read(guarded)
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.putrequest("POST", "/v1/predict")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.putheader("Content-Type", "image/png")
    connection.endheaders()
    sent = 0
    chunk = bytes(16_384)
    try:
        while sent < 100_000_000:
            connection.send(b"4000\r\n" + chunk + b"\r\n")
            sent += len(chunk)
    except ConnectionError:
        pass  # the server hung up, as it should
    response = connection.getresponse()
    body = response.read()
    connection.close()
    assert response.status == 401
    assert b'"code":"key_required"' in body
    assert sent < 100_000_000
    assert bytes_read(guarded) - before < 65_536


def test_a_server_without_its_file_of_keys_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"python -m service\.keys add"):
        make_app(api_keys_file=tmp_path / "none.json")
