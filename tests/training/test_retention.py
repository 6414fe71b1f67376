"""Going back, and what pruning leaves alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from model.errors import BundleError, RepositoryError, UnknownVersionError
from model.repository import Repository
from tests.model.networks import make_network
from training.cli import main
from training.retention import KEY_VARIABLE, Pruning, prune, roll_back, served_versions

NETWORK = make_network()


def publish(root: Path, count: int, **parents: int) -> Repository:
    """Versions 1 to ``count``; ``v4=2``: the fourth one replaced the second."""
    repository = Repository(root)
    for version in range(1, count + 1):
        repository.publish("m", NETWORK, {}, "card", parents.get(f"v{version}"))
    return repository


class Services:
    """Services on loopback, told apart by the first part of their path."""

    def __init__(self) -> None:
        self.pages: dict[str, object] = {}
        self.asked: list[tuple[str, str | None]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.asked.append((self.path, self.headers["Authorization"]))
                body = json.dumps(owner.pages[self.path.split("/")[1]]).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing on standard error."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{name}"


@pytest.fixture
def services() -> Iterator[Services]:
    made = Services()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def page(*versions: int, name: str = "m") -> dict[str, object]:
    return {"models": [{"name": name, "versions": [{"version": one} for one in versions]}]}


def test_back_to_what_the_latest_replaced(tmp_path: Path) -> None:
    repository = publish(tmp_path, 4, v4=2)
    assert roll_back(repository, "m") == (4, 2)
    assert repository.latest("m") == 2
    assert roll_back(repository, "m") == (2, 1)  # the second does not say: the one below it
    with pytest.raises(UnknownVersionError, match="no version before 1"):
        roll_back(repository, "m")


def test_to_a_named_version_forwards_too(tmp_path: Path) -> None:
    repository = publish(tmp_path, 3)
    assert roll_back(repository, "m", 1) == (3, 1)
    assert roll_back(repository, "m", 3) == (1, 3)
    with pytest.raises(RepositoryError, match="the latest already"):
        roll_back(repository, "m", 3)
    with pytest.raises(UnknownVersionError, match="no version 9"):
        roll_back(repository, "m", 9)


def test_from_a_damaged_version_but_not_to_one(tmp_path: Path) -> None:
    repository = publish(tmp_path, 3, v3=1)
    (tmp_path / "m/3/config.json").write_text("{}")
    (tmp_path / "m/1/config.json").write_text("{}")
    with pytest.raises(BundleError):
        roll_back(repository, "m", 1)
    assert repository.latest("m") == 3
    assert roll_back(repository, "m") == (3, 2)


def test_pruning_keeps_the_highest_the_latest_and_what_it_replaced(tmp_path: Path) -> None:
    repository = publish(tmp_path, 7)
    repository.set_latest("m", 4)
    assert prune(repository, "m", Pruning(keep=2, protect=(1,)), dry_run=True) == ([2, 5], {1, 3})
    assert repository.versions("m") == [1, 2, 3, 4, 5, 6, 7]
    assert prune(repository, "m", Pruning(keep=2, protect=(1,))) == ([2, 5], {1, 3})
    assert repository.versions("m") == [1, 3, 4, 6, 7]


def test_young_versions_stay(tmp_path: Path) -> None:
    repository = publish(tmp_path, 4)
    assert prune(repository, "m", Pruning(keep=1, min_age_s=3600))[0] == []


def test_what_is_served_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, services: Services
) -> None:
    repository = publish(tmp_path, 6)
    services.pages = {"one": page(2, 1), "two": page()}
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    pruning = Pruning(keep=1, services=(services.url("one") + "/", services.url("two")))
    assert prune(repository, "m", pruning)[0] == [3, 4]
    assert repository.versions("m") == [1, 2, 5, 6]
    assert services.asked[0] == ("/one/v1/models", "Bearer secret")


@pytest.mark.parametrize("answer", [{"hello": "world"}, [], page(1, name="other")])
def test_unless_every_service_answers_nothing_goes(
    tmp_path: Path, services: Services, answer: object
) -> None:
    repository = publish(tmp_path, 4)
    services.pages = {"one": page(2), "two": answer}
    urls = (services.url("one"), services.url("two"))
    with pytest.raises(RepositoryError, match="does not say which version"):
        prune(repository, "m", Pruning(keep=1, services=urls))
    with pytest.raises(RepositoryError, match="does not say which version"):
        prune(repository, "m", Pruning(keep=1, services=("http://127.0.0.1:9",)))
    assert repository.versions("m") == [1, 2, 3, 4]
    assert served_versions((), "m") == set()


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(tmp_path, 4)
    where = ["--repository", str(tmp_path), "--name", "m"]
    assert main(["rollback", *where]) == 0
    assert "the latest version of m is 3; it was 4" in capsys.readouterr().out
    assert main(["prune", *where, "--keep", "1", "--dry-run"]) == 0
    assert "versions of m would be removed: 1; held: 2" in capsys.readouterr().out
    assert main(["prune", *where, "--keep", "1", "--protect", "1"]) == 0
    assert "versions of m removed: none; held: 1, 2" in capsys.readouterr().out
    assert main(["rollback", *where, "--version", "8"]) == 1
    assert main(["prune", *where, "--keep", "0"]) == 2
