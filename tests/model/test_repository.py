from __future__ import annotations

import errno
import fcntl
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from model import repository as module
from model.bundle import CONTENT, write_bundle
from model.errors import (
    BundleError,
    RepositoryError,
    UnknownModelError,
    UnknownVersionError,
)
from model.local_store import LocalStore
from model.network import RoutedNetwork
from model.repository import Repository
from tests.conftest import ROOT
from tests.model.killed_publisher import STEPS
from tests.model.networks import make_network, random_images


@pytest.fixture(scope="module")
def network() -> RoutedNetwork:
    return make_network()


def test_two_runs_may_look_at_once_whether_they_may_publish(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Path.touch

    def removed_by_the_other(self: Path) -> None:
        original(self)
        self.unlink()

    monkeypatch.setattr(Path, "touch", removed_by_the_other)
    repository.check_writable("m")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "models")


@pytest.fixture
def published(repository: Repository, network: RoutedNetwork) -> Repository:
    """One model ``m`` with version 1."""
    assert repository.publish("m", network, {"accuracy": 0.5}, "card") == 1
    return repository


def hidden(repository: Repository, name: str = "m") -> list[str]:
    """Files beside the versions that are no part of the format."""
    names = [entry.name for entry in (repository.root / name).iterdir()]
    return sorted(n for n in names if n.startswith(".") and n != ".lock")


# --- publishing and reading -------------------------------------------------------------------


def test_versions_count_up_and_the_latest_is_the_default(
    repository: Repository, network: RoutedNetwork
) -> None:
    for expected in (1, 2, 3):
        assert repository.publish("m", network, {"version": expected}, "card") == expected
        assert repository.latest("m") == expected
    assert repository.versions("m") == [1, 2, 3]
    assert repository.read("m").metrics == {"version": 3}
    assert repository.read("m", 2).metrics == {"version": 2}
    assert repository.path("m", 2) == repository.root / "m" / "2"
    assert (repository.root / "m" / "LATEST").read_text() == "3\n"
    assert hidden(repository) == []


def test_what_is_read_answers_as_what_was_published(
    published: Repository, network: RoutedNetwork
) -> None:
    images = random_images(network, 2)
    again = published.read("m").network()
    assert torch.equal(again(images, 1), network(images, 1))


def test_version_ten_comes_after_nine(published: Repository, network: RoutedNetwork) -> None:
    (published.root / "m" / "1").rename(published.root / "m" / "9")
    assert published.publish("m", network, {}, "") == 10
    assert published.versions("m") == [9, 10]
    assert published.latest("m") == 10


def test_a_rolled_back_latest_is_followed_and_the_next_version_is_new(
    published: Repository, network: RoutedNetwork
) -> None:
    published.publish("m", network, {}, "")
    (published.root / "m" / "LATEST").write_text("1\n")
    assert published.latest("m") == 1
    assert published.publish("m", network, {}, "") == 3
    assert published.latest("m") == 3


def test_the_parent_is_recorded_with_its_digest(
    published: Repository, network: RoutedNetwork
) -> None:
    published.publish("m", network, {}, "", parent=1)
    parent = published.read("m").manifest.parent
    assert parent is not None
    assert (parent.version, parent.digest) == (1, published.read("m", 1).digest)
    assert published.read("m", 1).manifest.parent is None


def test_a_parent_that_is_missing_or_damaged_stops_the_publication(
    published: Repository, network: RoutedNetwork
) -> None:
    with pytest.raises(UnknownVersionError, match=r"no version 7; it has \[1\]"):
        published.publish("m", network, {}, "", parent=7)
    (published.path("m", 1) / "config.json").write_text("{}")
    with pytest.raises(BundleError, match=r"not published: .*config\.json"):
        published.publish("m", network, {}, "", parent=1)
    assert published.versions("m") == [1]
    assert hidden(published) == []


def test_models_are_listed_by_name(published: Repository, network: RoutedNetwork) -> None:
    published.publish("b.2-x_Y", network, {}, "")
    (published.root / "empty").mkdir()
    (published.root / ".hidden").mkdir()
    (published.root / "a file").write_text("")
    (published.root / "file").write_text("")
    assert published.names() == ["b.2-x_Y", "m"]


def test_other_things_beside_the_versions_are_no_versions(published: Repository) -> None:
    for name in ("0", "01", "-1", "1.5", "v2", "2x", "\u0661", "10000000000"):
        (published.root / "m" / name).mkdir()
    assert published.versions("m") == [1]


# --- what is not there ------------------------------------------------------------------------


def test_an_unknown_model_lists_the_known_ones(published: Repository) -> None:
    for ask in (published.latest, published.read, lambda name: published.read(name, 3)):
        with pytest.raises(UnknownModelError, match="no model 'other'; it has: m") as caught:
            ask("other")
        assert caught.value.details == {"model": "other"}
    assert published.versions("other") == []


def test_an_unknown_version_lists_the_known_ones(published: Repository) -> None:
    for version in (0, 2, -1):
        with pytest.raises(UnknownVersionError, match=rf"no version {version}; it has \[1\]"):
            published.read("m", version)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../m", "m/1", "/etc", "m/../m", "m\0", "m\n", "a b", ".hidden", "-rf", "ü",
     "m" * 101, "..\\m", "m/"],
)  # fmt: skip
def test_names_that_could_leave_the_repository_are_refused(
    name: str, published: Repository, network: RoutedNetwork
) -> None:
    asks: list[Callable[[], object]] = [
        lambda: published.versions(name),
        lambda: published.latest(name),
        lambda: published.read(name),
        lambda: published.path(name, 1),
        lambda: published.publish(name, network, {}, ""),
    ]
    for ask in asks:
        with pytest.raises(UnknownModelError, match="is not a model name"):
            ask()
    assert sorted(entry.name for entry in published.root.iterdir()) == ["m"]
    assert [entry.name for entry in published.root.parent.iterdir()] == ["models"]


def test_a_repository_that_is_not_there_says_what_to_do(repository: Repository) -> None:
    with pytest.raises(RepositoryError, match="models cannot be read: No such file"):
        repository.names()
    for ask in (repository.versions, repository.latest, repository.read):
        with pytest.raises(RepositoryError, match="is not a directory; train or init a model"):
            ask("m")


def test_a_repository_that_is_a_file(tmp_path: Path, network: RoutedNetwork) -> None:
    (tmp_path / "file").write_text("")
    repository = Repository(tmp_path / "file")
    with pytest.raises(RepositoryError, match="cannot be read: Not a directory"):
        repository.names()
    with pytest.raises(RepositoryError, match="is not a directory"):
        repository.read("m")
    with pytest.raises(RepositoryError, match=r"cannot publish to .*file/m: Not a directory"):
        repository.publish("m", network, {}, "")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_an_unreadable_directory_is_our_error(
    published: Repository, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path) -> None:
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, "iterdir", fail)
    for ask in (published.names, lambda: published.latest("m"), lambda: published.read("m")):
        with pytest.raises(RepositoryError, match=f"cannot be read: {os.strerror(code)}") as caught:
            ask()
        assert caught.value.code == "repository_unreadable"


def test_an_unreadable_latest_is_our_error(published: Repository) -> None:
    (published.root / "m" / "LATEST").unlink()
    (published.root / "m" / "LATEST").mkdir()
    with pytest.raises(RepositoryError, match="LATEST cannot be read: Is a directory"):
        published.latest("m")


@pytest.mark.parametrize(
    ("content", "shown"),
    [(b"", "''"), (b"two", "'two'"), (b"2", "'2'"), (b"-1", "'-1'"), (b"1 2", "'1 2'"),
     (b"\xff\xfe", "says '"), (b"../1", "'../1'"), (b"x" * 10_000, "x'; published versions")],
)  # fmt: skip
def test_a_latest_that_names_no_version(published: Repository, content: bytes, shown: str) -> None:
    (published.root / "m" / "LATEST").write_bytes(content)
    with pytest.raises(RepositoryError, match=r"published versions are \[1\]") as caught:
        published.read("m")
    assert shown in caught.value.message
    assert len(caught.value.message) < 400
    assert published.read("m", 1).metrics == {"accuracy": 0.5}


def test_a_missing_latest_says_how_to_go_on(published: Repository, network: RoutedNetwork) -> None:
    (published.root / "m" / "LATEST").unlink()
    with pytest.raises(RepositoryError, match="publish again, or write 1 into that file"):
        published.latest("m")
    published.publish("m", network, {}, "")
    assert published.latest("m") == 2


def test_damage_after_publishing_is_found_on_reading(published: Repository) -> None:
    file = published.path("m", 1) / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.safetensors has sha256"):
        published.read("m")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="tells files by /proc/self/fd")
def test_everything_is_flushed_before_the_next_thing_names_it(
    published: Repository, network: RoutedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power cut may lose is never what something already on disk points to."""
    events: list[str] = []
    fsync, rename, replace = os.fsync, Path.rename, Path.replace

    def flushed(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        events.append("staging" if path.name.startswith(".staging") else path.name.split("-")[0])
        fsync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        events.append(f"rename to {target.name}")
        return rename(self, target)

    def replaced(self: Path, target: Path) -> Path:
        events.append(f"replace {target.name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "rename", renamed)
    monkeypatch.setattr(Path, "replace", replaced)
    published.publish("m", network, {}, "")
    assert sorted(events[:5]) == sorted([*CONTENT, "manifest.json"])
    assert events[5:] == ["staging", "rename to 2", "m", ".LATEST", "replace LATEST", "m"]


# --- failures while publishing ----------------------------------------------------------------


def test_metrics_with_nan_stop_before_a_version_is_made(
    published: Repository, network: RoutedNetwork
) -> None:
    with pytest.raises(BundleError, match=r"not published: metrics\.json .*None, not NaN"):
        published.publish("m", network, {"ap": float("nan")}, "")
    assert (published.versions("m"), published.latest("m"), hidden(published)) == ([1], 1, [])


def test_what_does_not_load_again_is_not_published(
    published: Repository, network: RoutedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(path: Path, *args: Any) -> None:
        write_bundle(path, *args)
        content = (path / "model.safetensors").read_bytes()
        (path / "model.safetensors").write_bytes(content[:-1])

    monkeypatch.setattr(module, "write_bundle", forgetful)
    with pytest.raises(BundleError, match=r"not published: .*truncated or altered") as caught:
        published.publish("m", network, {}, "")
    assert caught.value.details == {"file": "model.safetensors"}
    assert (published.versions("m"), published.latest("m"), hidden(published)) == ([1], 1, [])


def fail_at(monkeypatch: pytest.MonkeyPatch, step: int, error: BaseException) -> list[str]:
    """Let the ``step``-th call of any of STEPS raise; the calls made are listed."""
    calls: list[str] = []

    def failing(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            if len(calls) == step + 1:
                raise error
            return original(*args, **kwargs)

        return call

    for owner, name in STEPS:
        monkeypatch.setattr(owner, name, failing(name, getattr(owner, name)))
    return calls


@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_a_failure_at_any_step_leaves_whole_versions_only(
    repository: Repository, network: RoutedNetwork, kind: type[BaseException]
) -> None:
    error = OSError(errno.ENOSPC, "No space left on device") if kind is OSError else kind()
    repository.publish("m", network, {}, "")
    completed = False
    for step in range(60):
        before = repository.versions("m")
        with pytest.MonkeyPatch.context() as patch:
            calls = fail_at(patch, step, error)
            try:
                repository.publish("m", network, {}, "")
            except (RepositoryError, KeyboardInterrupt) as caught:
                message = str(caught)
            else:
                completed = len(calls) <= step  # else the failure did not matter
                message = ""
        if completed:
            break
        if kind is OSError and message:
            assert "No space left on device" in message
        for version in repository.versions("m"):
            repository.read("m", version).network()
        added = repository.versions("m")[len(before) :]
        assert repository.latest("m") in {*before, *added}
        if added and kind is OSError and message:
            assert f"version {added[0]} is whole" in message
        staged = [name for name in hidden(repository) if name.startswith(".staging")]
        # Made, but its lock not yet taken: the next publisher removes it.
        assert len(staged) <= 1
    assert completed
    assert set(calls) == {name for _, name in STEPS}  # nothing patched went unused
    assert repository.latest("m") == repository.versions("m")[-1]
    assert hidden(repository) == []


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder in which publishers were killed or ran together, and the report of it."""
    folder = tmp_path_factory.mktemp("processes")
    done = subprocess.run(
        [sys.executable, "-m", "tests.model.killed_publisher", str(folder)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_a_publisher_killed_at_any_step_leaves_whole_versions_only(
    processes: tuple[Path, dict[str, Any]],
) -> None:
    folder, report = processes
    *killed, last = report["killed"]
    assert len(killed) > 10
    assert all(left["killed"] for left in killed)
    assert not last["killed"]
    assert killed[0]["latest"] == 1  # killed early: nothing happened
    for before, left in itertools.pairwise([*killed, last]):
        # Each version was read and built by the reporting process.
        assert left["latest"] in left["versions"]
        assert before["latest"] <= left["latest"]
    assert last["latest"] == last["versions"][-1]
    # The last publisher tidied up after the dead ones.
    assert hidden(Repository(folder / "killed")) == []


def test_publishers_in_several_processes_get_versions_of_their_own(
    processes: tuple[Path, dict[str, Any]],
) -> None:
    folder, report = processes
    together = report["together"]
    assert together["failed"] == 0
    assert together["versions"] == list(range(1, 11))  # 1 + 3 publishers x 3
    assert together["latest"] == 10
    assert set(together["seen"]) <= set(together["versions"])
    assert hidden(Repository(folder / "together")) == []


def test_publishers_in_several_threads_get_versions_of_their_own(
    repository: Repository, network: RoutedNetwork
) -> None:
    versions: list[int] = []

    def work() -> None:
        versions.extend(repository.publish("m", network, {}, "") for _ in range(3))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == list(range(1, 13))
    assert repository.latest("m") == 12
    assert hidden(repository) == []


def test_a_living_publisher_s_files_are_left_alone(
    published: Repository, network: RoutedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged: list[Path] = []

    def interrupted(path: Path, *args: Any) -> None:
        write_bundle(path, *args)
        if not staged:
            staged.append(path)
            assert published.publish("m", network, {"who": "second"}, "") == 2
            assert path.exists()

    monkeypatch.setattr(module, "write_bundle", interrupted)
    assert published.publish("m", network, {"who": "first"}, "") == 3
    assert published.read("m", 2).metrics == {"who": "second"}
    assert published.read("m", 3).metrics == {"who": "first"}


def test_leftovers_of_dead_publishers_are_removed(
    published: Repository, network: RoutedNetwork
) -> None:
    orphan = published.root / "m" / ".staging-0123"
    orphan.mkdir()
    (orphan / "model.safetensors").write_bytes(b"half")
    (published.root / "m" / ".LATEST-4567").write_text("9")
    assert published.versions("m") == [1]
    published.publish("m", network, {}, "")
    assert hidden(published) == []


def test_file_systems_without_directory_locks_can_be_published_to(
    published: Repository, network: RoutedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def like_nfs(file: Any, operation: int) -> None:
        if isinstance(file, int):  # a directory; the lock file itself can be locked
            raise OSError(errno.EBADF, "Bad file descriptor")
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", like_nfs)
    orphan = published.root / "m" / ".staging-0123"
    orphan.mkdir()
    assert published.publish("m", network, {}, "") == 2
    assert orphan.exists()  # nobody can tell whether its publisher lives


def test_a_version_published_while_latest_is_read_does_no_harm(
    published: Repository, network: RoutedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = LocalStore.latest

    def latest(self: LocalStore, name: str) -> str | None:
        text = read(self, name)
        monkeypatch.undo()
        Repository(published.root).publish("m", network, {}, "card")
        return text

    monkeypatch.setattr(LocalStore, "latest", latest)
    assert published.latest("m") == 1
    assert published.latest("m") == 2


def test_what_is_published_is_told_without_reading_it(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    repository.publish("net", make_network(), {}, "# net\n")
    first = repository.published("net")
    assert (first.version, first.digest) == (1, repository.read("net").digest)
    assert repository.published("net") == first
    repository.publish("net", make_network(seed=1), {}, "# net\n")
    second = repository.published("net")
    assert (second.version, second.digest) == (2, repository.read("net").digest)
    assert repository.published("net", 1).digest == first.digest


def test_what_is_published_changes_with_latest_and_with_any_file(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    repository.publish("net", make_network(), {}, "# net\n")
    seen = [repository.published("net")]
    weights = repository.path("net", 1) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    seen.append(repository.published("net"))
    (tmp_path / "net" / "LATEST").write_text("1")
    seen.append(repository.published("net"))
    (repository.path("net", 1) / "manifest.json").unlink()
    seen.append(repository.published("net"))
    assert len(set(seen)) == 4
    assert seen[-1].digest == ""


def test_what_was_never_published_is_told_as_when_it_is_read(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    with pytest.raises(UnknownModelError):
        repository.published("net")
    repository.publish("net", make_network(), {}, "# net\n")
    with pytest.raises(UnknownVersionError, match=r"no version 2; it has \[1\]"):
        repository.published("net", 2)
