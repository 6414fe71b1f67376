"""Repositories on a real S3-compatible server, over the network."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.errors import RepositoryError
from model.network import RoutedNetwork
from model.remote_options import RemoteOptions
from model.repository import Repository
from tests.model.networks import make_network
from tests.object_store import BUCKET, ObjectStore, object_store

pytest.importorskip("moto", reason="an S3-compatible server for tests is not installed")
pytest.importorskip("s3fs", reason="the extra `remote` is not installed")


@pytest.fixture(scope="module")
def network() -> RoutedNetwork:
    return make_network()


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    with object_store() as running:
        yield running


@pytest.fixture
def repository(
    server: ObjectStore, request: pytest.FixtureRequest, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Repository:  # fmt: skip
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    options = RemoteOptions(cache_dir=tmp_path / "cache", timeout_s=30)
    return Repository(f"s3://{BUCKET}/{request.node.name}", options)


def test_publish_read_roll_back_and_prune(repository: Repository, network: RoutedNetwork) -> None:
    with pytest.raises(RepositoryError, match="nothing is there; check the address"):
        repository.read("m")
    for number in (1, 2):
        assert repository.publish("m", network, {"number": number}, "card") == number
    assert (repository.names(), repository.versions("m")) == (["m"], [1, 2])
    published = repository.published("m")
    assert published == repository.published("m")
    bundle = repository.read("m")
    assert (bundle.digest, bundle.metrics) == (published.digest, {"number": 2})
    repository.set_latest("m", 1)
    assert repository.published("m") != published
    assert repository.read("m").metrics == {"number": 1}
    repository.set_latest("m", 2)
    assert repository.prune("m", keep=1) == [1]
    assert repository.versions("m") == [2]


@pytest.mark.slow
def test_publishers_at_the_same_time_get_versions_of_their_own(
    repository: Repository, network: RoutedNetwork
) -> None:
    versions: list[int] = []

    def work(who: int) -> None:
        versions.append(repository.publish("m", network, {"who": who}, "card"))

    threads = [threading.Thread(target=work, args=(who,)) for who in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == [1, 2, 3]
    assert repository.latest("m") == 3
    read = [repository.read("m", version).metrics["who"] for version in (1, 2, 3)]
    assert sorted(read) == [0, 1, 2]


def test_a_bucket_that_is_not_there_is_our_error(repository: Repository) -> None:
    other = Repository("s3://no-such-bucket/models")
    with pytest.raises(RepositoryError, match=r"cannot be listed: The specified bucket does not"):
        other.latest("m")
    with pytest.raises(
        RepositoryError, match=r"s3://no-such-bucket/models/m/\.writable\S+ cannot be written"
    ):
        other.check_writable("m")


@pytest.mark.slow
def test_a_server_that_hangs_or_has_gone_is_our_error_in_time(
    repository: Repository, network: RoutedNetwork, server: ObjectStore, tmp_path: Path
) -> None:
    repository.publish("m", network, {}, "card")
    impatient = Repository(repository.location, RemoteOptions(tmp_path / "cache", timeout_s=1))
    server.process.send_signal(signal.SIGSTOP)
    try:
        start = time.monotonic()
        with pytest.raises(RepositoryError, match="LATEST cannot be read: no answer within 1 s"):
            impatient.published("m")
        assert time.monotonic() - start < 20
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert repository.read("m").digest == repository.published("m").digest
    server.process.kill()
    server.process.wait()
    with pytest.raises(RepositoryError, match=r"LATEST cannot be read: (Could not|no answ)"):
        impatient.published("m")
