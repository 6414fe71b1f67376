"""Pruning and rolling back, in a directory and on an object store alike."""

from __future__ import annotations

import json
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from model.errors import RepositoryError, UnknownModelError, UnknownVersionError
from model.local_store import LocalStore
from model.network import RoutedNetwork
from model.remote_files import RemoteFiles
from model.remote_options import RemoteOptions
from model.repository import Repository
from tests.model.networks import make_network


@pytest.fixture(scope="module")
def network() -> RoutedNetwork:
    return make_network()


@pytest.fixture(params=["directory", "object store"])
def repository(
    request: pytest.FixtureRequest, tmp_path: Path, network: RoutedNetwork
) -> Repository:
    """One model ``m`` with versions 1 to 4."""
    root = tmp_path / "models" if request.param == "directory" else f"memory://{uuid.uuid4().hex}"
    made = Repository(root, RemoteOptions(cache_dir=tmp_path / "cache"))
    for number in range(1, 5):
        made.publish("m", network, {"number": number}, "card")
    return made


def write(repository: Repository, file: str, data: bytes) -> None:
    """Change a file behind the repository's back."""
    if repository.location.startswith("memory://"):
        RemoteFiles(repository.location, 5).write(f"m/{file}", data)
    else:
        (repository.root / "m" / file).write_bytes(data)


def test_the_highest_versions_stay(repository: Repository) -> None:
    assert repository.prune("m", keep=3) == [1]
    assert repository.prune("m", keep=1) == [2, 3]
    assert repository.prune("m", keep=1) == []
    assert repository.versions("m") == [4]
    assert repository.read("m").metrics == {"number": 4}


def test_a_dry_run_removes_nothing(repository: Repository) -> None:
    assert repository.prune("m", keep=1, dry_run=True) == [1, 2, 3]
    assert repository.versions("m") == [1, 2, 3, 4]


def test_what_latest_names_and_what_is_protected_stays(repository: Repository) -> None:
    repository.set_latest("m", 2)
    assert repository.prune("m", keep=1, protect={1}) == [3]
    assert repository.versions("m") == [1, 2, 4]
    assert repository.read("m").metrics == {"number": 2}


def test_young_versions_and_those_of_unknown_age_stay(repository: Repository) -> None:
    made = repository.read("m", 1).manifest.model_dump()
    hour_ago = datetime.fromtimestamp(time.time() - 3600, UTC).isoformat()
    write(repository, "1/manifest.json", json.dumps(made | {"created_at": hour_ago}).encode())
    write(repository, "2/manifest.json", b"damaged")
    assert repository.prune("m", keep=1, min_age_s=7200) == []
    assert repository.prune("m", keep=1, min_age_s=1800) == [1]
    assert repository.versions("m") == [2, 3, 4]


def test_the_number_of_a_pruned_version_is_not_taken_again(
    repository: Repository, network: RoutedNetwork
) -> None:
    repository.set_latest("m", 1)
    repository.prune("m", keep=1)
    assert repository.publish("m", network, {}, "card") == 5


def test_at_least_one_version_stays(repository: Repository) -> None:
    with pytest.raises(ValueError, match="keep is 0: the highest version always stays"):
        repository.prune("m", keep=0)
    with pytest.raises(UnknownModelError):
        repository.prune("other", keep=1)


def test_a_rollback_is_followed_until_the_next_publication(
    repository: Repository, network: RoutedNetwork
) -> None:
    before = repository.published("m")
    repository.set_latest("m", 3)
    assert repository.latest("m") == 3
    assert repository.read("m").metrics == {"number": 3}
    assert repository.published("m") != before
    assert repository.publish("m", network, {}, "card") == 5
    assert repository.latest("m") == 5


def test_only_published_versions_can_be_named(repository: Repository) -> None:
    with pytest.raises(UnknownVersionError, match="no version 9"):
        repository.set_latest("m", 9)
    with pytest.raises(UnknownModelError):
        repository.set_latest("other", 1)
    assert repository.latest("m") == 4


def test_a_broken_latest_is_mended(repository: Repository) -> None:
    write(repository, "LATEST", b"garbage")
    with pytest.raises(RepositoryError, match="says 'garbage'"):
        repository.latest("m")
    repository.set_latest("m", 4)
    assert repository.latest("m") == 4


def test_a_version_named_or_gone_in_the_last_moment_is_left(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another process may, between the choice and the removal."""
    assert not repository._store.remove("m", 4)
    assert repository._store.remove("m", 3)
    assert not repository._store.remove("m", 3)
    with pytest.raises(UnknownVersionError, match="was just pruned"):
        repository._store.name_latest("m", 3)
    assert repository.latest("m") == 4


def test_what_a_killed_pruner_left_is_removed(tmp_path: Path, network: RoutedNetwork) -> None:
    repository = Repository(tmp_path)
    for _ in range(2):
        repository.publish("m", network, {}, "card")
    (tmp_path / "m" / "1").rename(tmp_path / "m" / ".staging-0123")
    assert repository.prune("m", keep=1) == []
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [".lock", "2", "LATEST"]


def test_a_directory_that_cannot_be_changed_is_our_error(
    tmp_path: Path, network: RoutedNetwork
) -> None:
    repository = Repository(tmp_path)
    for _ in range(2):
        repository.publish("m", network, {}, "card")
    (tmp_path / "m" / ".lock").unlink()
    (tmp_path / "m" / ".lock").mkdir()
    store = LocalStore(tmp_path)
    with pytest.raises(RepositoryError, match=r"cannot tidy .*m: Is a directory"):
        repository.prune("m", keep=1)
    with pytest.raises(RepositoryError, match=r"cannot remove .*m/1: Is a directory"):
        store.remove("m", 1)
    with pytest.raises(RepositoryError, match=r"cannot write .*LATEST: Is a directory"):
        repository.set_latest("m", 1)
    assert repository.read("m", 1).network()
