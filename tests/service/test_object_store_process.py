"""The real thing on an object store: a server process follows a repository on S3."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from model.bundle import CONTENT, MANIFEST
from model.network import RoutedNetwork
from model.remote_files import RemoteFiles
from model.remote_options import RemoteOptions
from model.repository import Repository
from tests.object_store import BUCKET, ObjectStore, object_store
from tests.service.pictures import picture
from tests.service.server_process import Server, answers, serving

pytest.importorskip("moto", reason="an S3-compatible server for tests is not installed")
pytest.importorskip("s3fs", reason="the extra `remote` is not installed")

URL = f"s3://{BUCKET}/prod"
PHOTO = picture(seed=1)


@pytest.fixture
def network(repository: Path) -> RoutedNetwork:
    return Repository(repository).read("small").network()


def publish(store: Repository, network: RoutedNetwork, scale: float) -> str:
    """A version that answers differently; returns its digest."""
    with torch.no_grad():
        for parameter in network.heads.parameters():
            parameter.mul_(scale)
    return store.read("small", store.publish("small", network, {}, "# small\n")).digest


def publish_corrupt(files: RemoteFiles, version: int) -> None:
    """A version that a broken copy left: a byte of its weights is another."""
    for name in (*CONTENT, MANIFEST):
        data = bytearray(files.read(f"small/{version - 1}/{name}") or b"")
        if name == "model.safetensors":
            data[-1] ^= 1
        if name == MANIFEST:
            data += b"\n"  # else the copy of the version before, with the same digest, is taken
        files.write(f"small/{version}/{name}", bytes(data))
    files.write("small/LATEST", f"{version}\n".encode())


def model_page(server: Server) -> dict[str, Any]:
    """What is served; answers while the store does not."""
    assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200
    body: dict[str, Any] = httpx.get(f"{server.url}/v1/model").json()
    return body


def until(server: Server, what: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    end = time.monotonic() + 90
    while True:
        page = model_page(server)
        if what(page):
            return page
        assert time.monotonic() < end, page
        time.sleep(0.05)


def predict(server: Server) -> tuple[str, list[float]]:
    """The version that answered, and what."""
    response = httpx.post(
        f"{server.url}/v1/predict?tasks=t0,shoe",
        content=PHOTO,
        headers={"Content-Type": "image/png"},
        timeout=30,
    )
    body = response.raise_for_status().json()
    found = [number for numbers in answers(body)[0].values() for number in numbers]
    return body["model"]["digest"], found


def refresh_errors(server: Server) -> list[str]:
    return [line["message"] for line in server.log if "cannot look for new" in line["message"]]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[ObjectStore], Repository]:
    """The publisher's side of a running server; its environment is the service's too."""

    def connected(server: ObjectStore) -> Repository:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        return Repository(URL, RemoteOptions(tmp_path / "publisher"))

    return connected


@pytest.mark.slow
def test_publish_serve_refresh_and_outlive_the_store(
    store: Callable[[ObjectStore], Repository], network: RoutedNetwork, tmp_path: Path
) -> None:
    flags = ["--refresh-interval-ms", "200", "--repository-timeout-ms", "2000"]
    flags += ["--warmup-ms", "100", "--bundle-cache-dir", str(tmp_path / "cache")]
    with object_store() as s3:
        repository = store(s3)
        first = publish(repository, network, 1.0)
        with serving(URL, *flags) as server:
            assert predict(server)[0] == first

            second = publish(repository, network, 0.05)
            until(server, lambda page: page["digest"] == second)
            digest, served = predict(server)
            assert digest == second

            publish_corrupt(RemoteFiles(URL, 30), version=3)
            page = until(server, lambda page: page["reason"])
            assert "s3://models/prod/small/3: model.safetensors has sha256" in page["reason"]
            assert server.metric('taskroute_model_loads_total{result="refused"}') == 1
            repository.set_latest("small", 2)
            until(server, lambda page: page["reason"] is None)
            digest, again = predict(server)
            assert digest == second
            assert again == pytest.approx(served, abs=1e-5)

            s3.process.send_signal(signal.SIGSTOP)  # a store that hangs
            page = until(server, lambda page: page["refresh"]["unreadable"])
            assert page["state"] == "ready"
            assert predict(server)[0] == second
            s3.process.send_signal(signal.SIGCONT)
            until(server, lambda page: page["refresh"]["unreadable"] is None)

            s3.process.kill()  # a store that is gone
            s3.process.wait()
            errors = len(refresh_errors(server))
            page = until(server, lambda page: page["refresh"]["unreadable"])
            read_at = server.metric("taskroute_repository_read_timestamp_seconds")
            assert 0 < read_at < time.time()
            assert predict(server)[0] == second
            assert len(refresh_errors(server)) > errors
            assert "s3://models/prod/small" in refresh_errors(server)[-1]
            assert "version 2 goes on answering" in refresh_errors(server)[-1]

            with object_store(s3.port) as empty:  # it returns, with other content
                third = publish(store(empty), network, -1.0)
                page = until(server, lambda page: page["digest"] == third)
                assert (page["version"], page["refresh"]["unreadable"]) == (1, None)
                assert server.metric("taskroute_repository_read_timestamp_seconds") > read_at
                empty.process.send_signal(signal.SIGSTOP)
                server.process.terminate()  # while a look hangs
                assert server.process.wait(60) == 0
    copies = [path.name for path in (tmp_path / "cache").iterdir()]
    assert set(copies) >= {digest.removeprefix("sha256:") for digest in (first, second, third)}


@pytest.mark.slow
def test_a_store_that_comes_late_is_waited_for(
    store: Callable[[ObjectStore], Repository], network: RoutedNetwork, tmp_path: Path
) -> None:
    flags = ["--refresh-interval-ms", "200", "--warmup-ms", "100"]
    flags += ["--bundle-cache-dir", str(tmp_path / "cache")]
    with object_store() as s3:
        repository = store(s3)
        with serving(URL, *flags, ready=False) as server:
            end = time.monotonic() + 60
            while not refresh_errors(server) and time.monotonic() < end:
                time.sleep(0.05)
            assert "nothing is there; check the address" in refresh_errors(server)[-1]
            assert httpx.get(f"{server.url}/v2/health/live").status_code == 200
            assert httpx.get(f"{server.url}/v2/health/ready").status_code == 503
            published = publish(repository, network, 1.0)
            server.wait_for("model is ready")
            assert predict(server)[0] == published
