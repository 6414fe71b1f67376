"""Repositories on an object store, against fsspec's store in memory."""

from __future__ import annotations

import errno
import json
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

from model import remote_store as module
from model.errors import BundleError, RepositoryError, UnknownModelError, UnknownVersionError
from model.network import RoutedNetwork
from model.remote_files import RemoteFiles
from model.remote_options import RemoteOptions
from model.remote_store import RemoteStore
from model.repository import Repository
from tests.model.networks import make_network, random_images

FILES = ["README.md", "config.json", "manifest.json", "metrics.json", "model.safetensors"]


@pytest.fixture(scope="module")
def network() -> RoutedNetwork:
    return make_network()


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}/models"


@pytest.fixture
def options(tmp_path: Path) -> RemoteOptions:
    return RemoteOptions(cache_dir=tmp_path / "cache")


@pytest.fixture
def repository(url: str, options: RemoteOptions) -> Repository:
    return Repository(url, options)


@pytest.fixture
def published(repository: Repository, network: RoutedNetwork) -> Repository:
    """One model ``m`` with version 1."""
    assert repository.publish("m", network, {"accuracy": 0.5}, "card") == 1
    return repository


def files(repository: Repository) -> RemoteFiles:
    """The store behind a repository, to spoil things."""
    return RemoteFiles(repository.location, 5)


def objects(repository: Repository, folder: str = "m") -> list[str]:
    return sorted(files(repository).below(folder))


# --- publishing and reading -------------------------------------------------------------------


def test_versions_count_up_and_the_latest_is_the_default(
    repository: Repository, network: RoutedNetwork
) -> None:
    for expected in (1, 2, 3):
        assert repository.publish("m", network, {"version": expected}, "card") == expected
        assert repository.latest("m") == expected
    assert repository.versions("m") == [1, 2, 3]
    assert repository.names() == ["m"]
    assert repository.read("m").metrics == {"version": 3}
    assert repository.read("m", 2).metrics == {"version": 2}
    assert objects(repository, "m/1") == [".claim", *FILES]
    assert files(repository).read("m/LATEST") == b"3\n"


def test_what_is_read_answers_as_what_was_published(
    published: Repository, network: RoutedNetwork
) -> None:
    images = random_images(network, 2)
    assert torch.equal(published.read("m").network()(images, 1), network(images, 1))


def test_a_local_repository_that_was_copied_there_goes_on(
    tmp_path: Path, repository: Repository, network: RoutedNetwork
) -> None:
    local = Repository(tmp_path / "local")
    local.publish("m", network, {}, "card")
    for path in [*local.path("m", 1).iterdir(), local.root / "m" / "LATEST"]:
        files(repository).write(str(path.relative_to(local.root)), path.read_bytes())
    assert repository.read("m").digest == local.read("m").digest
    assert repository.publish("m", network, {}, "card", parent=1) == 2
    parent = repository.read("m", 2).manifest.parent
    assert parent is not None
    assert parent.digest == local.read("m").digest
    assert repository.prune("m", keep=1) == [1]


def test_what_is_read_once_is_not_fetched_again(
    published: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = published.read("m")

    def never(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(RemoteFiles, "pieces", never)
    again = published.read("m")
    assert (again.digest, again.path) == (first.digest, first.path)


def test_a_damaged_copy_is_noticed_and_fetched_anew(
    published: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    cached = published.read("m").path / "model.safetensors"
    data = bytearray(cached.read_bytes())
    data[-1] ^= 1
    cached.write_bytes(data)
    published.read("m").network()
    assert "damaged and are fetched anew: model.safetensors" in caplog.text
    assert bytes(data) != cached.read_bytes()


def test_what_is_published_changes_with_latest_and_with_any_file(
    published: Repository, network: RoutedNetwork
) -> None:
    seen = [published.published("m")]
    assert published.published("m") == seen[0]
    assert seen[0].digest == published.read("m").digest
    for path, data in (("m/1/config.json", b"{}"), ("m/LATEST", b"1"), ("m/1/manifest.json", b"")):
        files(published).write(path, data)
        seen.append(published.published("m"))
    published.publish("m", network, {}, "card")
    seen.append(published.published("m"))
    assert len(set(seen)) == 5
    assert [each.version for each in seen] == [1, 1, 1, 1, 2]


# --- what is not there, or damaged ------------------------------------------------------------


def test_an_unknown_model_or_version_lists_the_known_ones(published: Repository) -> None:
    with pytest.raises(UnknownModelError, match="no model 'other'; it has: m"):
        published.read("other")
    with pytest.raises(UnknownVersionError, match=r"no version 2; it has \[1\]"):
        published.read("m", 2)


def test_an_empty_store_says_what_to_do(repository: Repository) -> None:
    for ask in (repository.names, lambda: repository.latest("m"), lambda: repository.read("m")):
        with pytest.raises(RepositoryError, match=r"memory://.* nothing is there; check the addr"):
            ask()


def test_a_url_without_support_names_the_extra() -> None:
    with pytest.raises(RepositoryError, match=r"no support for foo://.*'taskroute\[remote\]'"):
        Repository("foo://bucket/prefix")


def test_what_needs_a_directory_says_so(published: Repository) -> None:
    asks: list[Callable[[], object]] = [lambda: published.root, lambda: published.path("m", 1)]
    for ask in asks:
        with pytest.raises(RepositoryError, match="is no directory: this needs a repository on"):
            ask()


@pytest.mark.parametrize(
    ("file", "data", "reason"),
    [
        ("model.safetensors", b"", "has 0 bytes, the manifest says"),
        ("config.json", None, "config.json is missing"),
        ("manifest.json", b"{", "manifest.json is not a bundle manifest"),
        ("manifest.json", b'{"format_version": 99}', "has format version 99"),
    ],
)
def test_a_corrupt_bundle_is_refused(
    published: Repository, file: str, data: bytes | None, reason: str
) -> None:
    if data is None:
        files(published).remove(f"m/1/{file}")
    else:
        files(published).write(f"m/1/{file}", data)
    with pytest.raises(BundleError, match=rf"memory://.*/m/1.*{reason}") as caught:
        published.read("m")
    assert caught.value.details["file"] == file


def test_a_flipped_bit_in_the_store_is_refused_and_not_cached(
    published: Repository, options: RemoteOptions
) -> None:
    data = bytearray(files(published).read("m/1/model.safetensors") or b"")
    data[-1] ^= 1
    files(published).write("m/1/model.safetensors", bytes(data))
    with pytest.raises(BundleError, match=r"/m/1: model\.safetensors has sha256 .*altered"):
        published.read("m")
    assert list(options.cache_dir.rglob("*safetensors*")) == []


def test_a_version_without_its_manifest_does_not_exist(
    published: Repository, network: RoutedNetwork
) -> None:
    published.publish("m", network, {}, "card")
    files(published).remove("m/2/manifest.json")
    assert published.versions("m") == [1]
    with pytest.raises(RepositoryError, match=r"LATEST says '2'; published versions are \[1\]"):
        published.latest("m")
    published.set_latest("m", 1)
    assert published.latest("m") == 1


def test_a_store_that_fails_is_our_error(
    published: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "cat_file", fail)
    for ask in (published.read, published.latest, published.published):
        with pytest.raises(RepositoryError, match="LATEST cannot be read: reset by peer"):
            ask("m")


def test_a_full_disk_under_the_cache_is_explained(
    published: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RepositoryError, match=r"No space left on device; .*CACHE_DIR"):
            published.read("m")
    published.read("m")


# --- publishers that fail, die or meet --------------------------------------------------------

WRITES = ("write", "create", "upload", "remove")


class Died(BaseException):
    """Stands for a process that is gone: from some step on nothing it does has an effect."""


def die_at(patch: pytest.MonkeyPatch, step: int, *, after: bool) -> list[str]:
    """Die at the ``step``-th writing call (from 0), before or after its effect."""
    calls: list[str] = []

    def dying(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            calls.append(name)
            if len(calls) > step + after:
                raise Died
            done = original(*args)
            if len(calls) > step:
                raise Died
            return done

        return call

    for name in WRITES:
        patch.setattr(RemoteFiles, name, dying(name, getattr(RemoteFiles, name)))
    return calls


@pytest.mark.parametrize("after", [False, True])
def test_a_publisher_killed_at_any_step_leaves_whole_versions_only(
    published: Repository, network: RoutedNetwork, after: bool
) -> None:
    calls: list[str] = []
    for step in range(20):
        before = published.versions("m")
        with pytest.MonkeyPatch.context() as patch:
            calls = die_at(patch, step, after=after)
            try:
                published.publish("m", network, {}, "card")
            except Died:
                completed = False
            else:
                completed = True
        for version in published.versions("m"):
            published.read("m", version).network()
        assert len(published.versions("m")) - len(before) in (0, 1)
        assert published.latest("m") in published.versions("m")
        if completed:
            break
    assert completed
    assert calls == ["create", *["upload"] * 4, "create", "write"]
    assert published.latest("m") == published.versions("m")[-1]
    # Numbers of the dead are left out, and what they left can be removed.
    dead = set(range(1, published.latest("m"))) - set(published.versions("m"))
    assert dead
    published._store.remove_abandoned("m", -1)
    for version in dead:
        assert objects(published, f"m/{version}") in ([], [".claim"])


def test_a_publisher_that_fails_tidies_up(
    published: Repository, network: RoutedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = RemoteFiles.upload

    def failing(self: RemoteFiles, path: str, file: Path) -> None:
        upload(self, path, file)
        if path.endswith("metrics.json"):
            raise RepositoryError("the store is read-only")

    monkeypatch.setattr(RemoteFiles, "upload", failing)
    with pytest.raises(RepositoryError, match="the store is read-only"):
        published.publish("m", network, {}, "card")
    assert objects(published, "m/2") == []
    monkeypatch.undo()
    assert published.publish("m", network, {}, "card") == 2


def test_an_upload_that_arrives_altered_is_not_published(
    published: Repository, network: RoutedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def altering(self: RemoteFiles, path: str, file: Path) -> None:
        data = file.read_bytes()
        self.write(path, data[:-1] + bytes([data[-1] ^ 1]))

    monkeypatch.setattr(RemoteFiles, "upload", altering)
    with pytest.raises(RepositoryError, match=r"/m/2/.* is not what was uploaded: publish again"):
        published.publish("m", network, {}, "card")
    assert published.versions("m") == [1]
    assert objects(published, "m/2") == []


def test_what_cannot_be_stored_is_not_published(
    published: Repository, network: RoutedNetwork
) -> None:
    with pytest.raises(BundleError, match=r"not published: metrics\.json .*None, not NaN"):
        published.publish("m", network, {"ap": float("nan")}, "card")
    assert objects(published, "m/2") == []


def test_publishers_at_the_same_time_get_versions_of_their_own(
    published: Repository, network: RoutedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins when the first has taken its number, and is done before it."""
    upload = RemoteFiles.upload
    second: list[int] = []

    def interrupted(self: RemoteFiles, path: str, file: Path) -> None:
        if not second:
            second.append(0)
            second[0] = published.publish("m", network, {"who": "second"}, "card")
            assert published.latest("m") == 3
        upload(self, path, file)

    monkeypatch.setattr(RemoteFiles, "upload", interrupted)
    assert published.publish("m", network, {"who": "first"}, "card") == 2
    assert second == [3]
    assert published.latest("m") == 3  # the highest, whoever is the last to finish
    assert published.read("m", 2).metrics == {"who": "first"}
    assert published.read("m", 3).metrics == {"who": "second"}


def test_an_older_version_s_late_write_of_latest_does_not_last(
    published: Repository, network: RoutedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = RemoteStore._write_latest

    def late(self: RemoteStore, name: str, text: str) -> None:
        monkeypatch.undo()
        assert published.publish("m", network, {}, "card") == 3
        write(self, name, text)
        assert published.latest("m") == 2

    monkeypatch.setattr(RemoteStore, "_write_latest", late)
    assert published.publish("m", network, {}, "card") == 2
    assert published.latest("m") == 3


def test_a_store_that_lets_two_take_one_number_publishes_only_one(
    published: Repository, network: RoutedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = RemoteFiles.upload

    def robbed(self: RemoteFiles, path: str, file: Path) -> None:
        upload(self, path, file)
        self.write("m/2/.claim", module._claim(at=time.time()))

    monkeypatch.setattr(RemoteFiles, "upload", robbed)
    with pytest.raises(RepositoryError, match="given up as abandoned, or the store does not keep"):
        published.publish("m", network, {}, "card")
    assert published.versions("m") == [1]
    assert ".claim" in objects(published, "m/2")  # the other's files are left alone


def test_an_answer_that_got_lost_is_no_failure(
    published: Repository, network: RoutedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = fsspec.get_filesystem_class("memory").pipe_file

    def repeated(self: Any, path: str, data: bytes, mode: str = "overwrite") -> None:
        create(self, path, data, mode=mode)
        create(self, path, data, mode=mode)  # as a client does that got no answer to the first

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "pipe_file", repeated)
    assert published.publish("m", network, {}, "card") == 2


def test_latest_that_cannot_be_written_is_told_from_a_version_that_cannot(
    published: Repository, network: RoutedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RepositoryError("denied")

    monkeypatch.setattr(RemoteStore, "_write_latest", fail)
    with pytest.raises(RepositoryError, match=r"denied \(version 2 is whole, LATEST may not name"):
        published.publish("m", network, {}, "card")


def test_files_copied_under_the_next_number_are_left_alone(
    published: Repository, network: RoutedNetwork
) -> None:
    files(published).write("m/2/config.json", b"{}")
    assert published.publish("m", network, {}, "card") == 3
    assert objects(published, "m/2") == ["config.json"]


# --- pruning ----------------------------------------------------------------------------------


def abandon(repository: Repository, version: int, seconds_ago: float) -> bytes:
    claim = json.dumps({"publisher": "x", "at": time.time() - seconds_ago}).encode()
    files(repository).write(f"m/{version}/.claim", claim)
    files(repository).write(f"m/{version}/config.json", b"{}")
    return claim


def test_only_what_dead_publishers_left_is_removed(
    published: Repository, network: RoutedNetwork
) -> None:
    abandon(published, 2, seconds_ago=25 * 3600)
    claim = abandon(published, 3, seconds_ago=23 * 3600)
    files(published).write("m/4/config.json", b"{}")  # being copied there
    published.prune("m", keep=1)
    assert objects(published, "m/2") == [".claim"]  # nobody's: a slow publisher finds it gone
    assert objects(published, "m/3") == [".claim", "config.json"]
    assert files(published).read("m/3/.claim") == claim
    assert objects(published, "m/4") == ["config.json"]
    assert published.publish("m", network, {}, "card") == 5


def test_a_version_named_while_it_is_removed_stays(
    published: Repository, network: RoutedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    published.publish("m", network, {}, "card")
    remove = RemoteFiles.remove

    def named_meanwhile(self: RemoteFiles, path: str) -> None:
        self.write("m/LATEST", b"1\n")
        remove(self, path)

    monkeypatch.setattr(RemoteFiles, "remove", named_meanwhile)
    assert published.prune("m", keep=1) == []
    assert published.read("m").metrics == {"accuracy": 0.5}
    assert published.versions("m") == [1, 2]


def test_a_version_removed_while_it_is_named_is_not_named(
    published: Repository, network: RoutedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    published.publish("m", network, {}, "card")
    write = RemoteStore._write_latest

    def removed_meanwhile(self: RemoteStore, name: str, text: str) -> None:
        monkeypatch.undo()
        files(published).remove("m/1/manifest.json")
        write(self, name, text)

    monkeypatch.setattr(RemoteStore, "_write_latest", removed_meanwhile)
    with pytest.raises(UnknownVersionError, match="no version 1 any more: it was just pruned"):
        published.set_latest("m", 1)
    assert published.latest("m") == 2


def test_a_version_pruned_before_it_is_read_says_so(
    published: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RemoteStore, "manifest", lambda *_: None)
    with pytest.raises(UnknownVersionError, match="no version 1 any more: it was just pruned"):
        published.read("m")
    assert published.published("m").digest == ""


# --- work that is not published ---------------------------------------------------------------


def test_unpublished_work_has_a_local_place_of_its_own(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    place = repository.workspace("m")
    assert place.is_relative_to(tmp_path / "taskroute")
    assert place.name == "m"
    assert Repository(repository.location + "-2").workspace("m") != place


def test_a_store_that_cannot_be_written_is_found_early(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.check_writable("m")
    assert objects(repository) == []

    def fail(*_: Any, **__: Any) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "pipe_file", fail)
    with pytest.raises(RepositoryError, match=r"cannot be written: Access Denied"):
        repository.check_writable("m")
