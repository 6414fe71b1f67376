from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from model.bundle import FileEntry
from model.bundle_cache import BundleCache
from model.errors import BundleError, RepositoryError
from tests.conftest import ROOT

CONTENT = {"a": b"a" * 60, "b": b"b" * 40}


def entries(content: dict[str, bytes]) -> dict[str, FileEntry]:
    return {
        name: FileEntry(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
        for name, data in content.items()
    }


class Store:
    """Serves the files of a bundle, and remembers which were asked for."""

    def __init__(self, content: dict[str, bytes] | None = None) -> None:
        self.content = CONTENT if content is None else content
        self.asked: list[str] = []

    def __call__(self, name: str, entry: FileEntry) -> Iterator[bytes]:
        self.asked.append(name)
        data = self.content[name]
        yield data[:30]
        yield data[30:]


def fetch(cache: BundleCache, manifest: bytes = b"m", store: Store | None = None) -> Path:
    with cache.bundle(manifest, entries(CONTENT), store or Store()) as directory:
        for name, data in CONTENT.items():
            assert (directory / name).read_bytes() == data
        return directory


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def cache(tmp_path: Path) -> BundleCache:
    return BundleCache(tmp_path / "cache", 1000)


def test_a_bundle_is_fetched_once(cache: BundleCache) -> None:
    store = Store()
    directory = fetch(cache, store=store)
    assert fetch(cache, store=store) == directory
    assert store.asked == ["a", "b"]
    assert files(directory) == ["a", "b", "manifest.json"]
    assert (directory / "manifest.json").read_bytes() == b"m"
    assert directory.name == hashlib.sha256(b"m").hexdigest()


def test_only_what_is_missing_or_short_is_fetched(cache: BundleCache) -> None:
    directory = fetch(cache)
    (directory / "a").write_bytes(b"a")
    store = Store()
    fetch(cache, store=store)
    assert store.asked == ["a"]


def test_damaged_files_are_found_and_fetched_anew(cache: BundleCache) -> None:
    directory = fetch(cache)
    (directory / "b").write_bytes(b"x" * 40)
    assert cache.discard_damaged(b"m", entries(CONTENT)) == ["b"]
    assert cache.discard_damaged(b"m", entries(CONTENT)) == ["b"]  # vanished: as good as damaged
    store = Store()
    fetch(cache, store=store)
    assert store.asked == ["b"]
    assert cache.discard_damaged(b"m", entries(CONTENT)) == []


def test_a_damaged_manifest_is_replaced(cache: BundleCache) -> None:
    directory = fetch(cache)
    (directory / "manifest.json").write_bytes(b"x")
    fetch(cache)
    assert (directory / "manifest.json").read_bytes() == b"m"


@pytest.mark.parametrize("wrong", [b"x" * 60, b"a" * 59, b""])
def test_what_is_not_what_the_manifest_says_is_refused(cache: BundleCache, wrong: bytes) -> None:
    with pytest.raises(BundleError, match=r"a has sha256 .*, the manifest says .*altered"):
        fetch(cache, store=Store(CONTENT | {"a": wrong}))
    (directory,) = cache.directory.iterdir()
    assert files(directory) == []


def test_a_failed_download_leaves_no_half_file(cache: BundleCache) -> None:
    def broken(name: str, entry: FileEntry) -> Iterator[bytes]:
        yield b"a"
        raise RepositoryError("the store has gone")

    with (
        pytest.raises(RepositoryError, match="the store has gone"),
        cache.bundle(b"m", entries(CONTENT), broken),
    ):
        pass
    (directory,) = cache.directory.iterdir()
    assert files(directory) == []


# --- bounded ----------------------------------------------------------------------------------


def age(directory: Path, seconds: int) -> None:
    os.utime(directory, (seconds, seconds))


def test_the_least_recently_read_make_room(tmp_path: Path) -> None:
    cache = BundleCache(tmp_path, 310)  # three bundles of 100 bytes and their manifests
    first, second, third = (fetch(cache, manifest) for manifest in (b"1", b"2", b"3"))
    for seconds, directory in enumerate((second, third)):
        age(directory, seconds)
    assert fetch(cache, b"1") == first  # read again: now the most recent
    fetch(cache, b"4")
    assert first.exists()
    assert not second.exists()
    assert third.exists()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 310


def test_a_bundle_that_is_read_stays_and_the_next_takes_its_place(tmp_path: Path) -> None:
    cache = BundleCache(tmp_path, 210)
    with cache.bundle(b"1", entries(CONTENT), Store()) as first:
        second = fetch(cache, b"2")
        age(first, 1)
        fetch(cache, b"3")
        assert first.exists()
        assert not second.exists()


def test_a_bundle_that_another_process_reads_stays(tmp_path: Path) -> None:
    cache = BundleCache(tmp_path, 110)
    first = fetch(cache, b"1")
    reader = (
        "import fcntl, os, sys; "
        "fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_SH); "
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", reader, str(first)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(RepositoryError, match="101 are in use: raise the limit"):
            fetch(cache, b"2")
        process.communicate("")
    assert first.exists()
    fetch(cache, b"2")
    assert not first.exists()


def test_a_bundle_above_the_limit_names_the_setting(tmp_path: Path) -> None:
    cache = BundleCache(tmp_path, 99)
    with pytest.raises(RepositoryError, match=r"may hold 99 bytes .*_CACHE_BYTES.*; 100 more"):
        fetch(cache)


def test_a_bundle_removed_while_it_is_opened_is_made_again(
    cache: BundleCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = fetch(cache)
    flock = fcntl.flock

    def removed_first(descriptor: int, operation: int) -> None:
        monkeypatch.undo()
        shutil.rmtree(directory)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    store = Store()
    assert fetch(cache, store=store) == directory
    assert store.asked == ["a", "b"]


def test_a_bundle_removed_just_after_it_was_found_is_made_again(
    cache: BundleCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = fetch(cache)
    mkdir = os.mkdir

    def removed_after(path: Path, mode: int = 0o777) -> None:
        try:
            mkdir(path, mode)
        except FileExistsError:
            if Path(path) == directory:
                monkeypatch.undo()
                shutil.rmtree(directory)
            raise

    monkeypatch.setattr(os, "mkdir", removed_after)
    store = Store()
    assert fetch(cache, store=store) == directory
    assert store.asked == ["a", "b"]


def test_a_bundle_removed_while_room_is_made_takes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = BundleCache(tmp_path, 150)  # room for one
    other = fetch(cache, b"other")
    scandir = os.scandir

    def removed_first(path: Path) -> Any:
        if Path(path) == other:
            monkeypatch.undo()
            shutil.rmtree(other)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", removed_first)
    assert fetch(cache) != other
    assert not other.exists()


def test_a_file_where_a_bundle_belongs_is_an_error(cache: BundleCache) -> None:
    directory = fetch(cache)
    shutil.rmtree(directory)
    directory.write_text("in the way")
    with pytest.raises(RepositoryError, match="Not a directory"):
        fetch(cache)


def test_readers_in_many_threads_share_a_small_cache(tmp_path: Path) -> None:
    """Room for three of six, so that bundles are removed and fetched all the time."""
    caches = [BundleCache(tmp_path, 320) for _ in range(3)]
    failures: list[Exception] = []

    def work(number: int) -> None:
        for turn in range(20):
            try:
                fetch(caches[number], str((number + turn) % 6).encode())
            except RepositoryError as error:  # all of it in use, in this very moment
                if "in use" not in error.message:
                    failures.append(error)
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


# --- faults -----------------------------------------------------------------------------------


def test_what_killed_processes_left_is_removed(cache: BundleCache) -> None:
    directory = fetch(cache)
    dead, living, young = (directory / f".a-{number}.part" for number in (1, 2, 3))
    for part in (dead, living, young):
        part.write_bytes(b"half")
    for part in (dead, living):
        age(part, 1)
    (cache.directory / ".removed-1").mkdir()
    with living.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        fetch(cache)
        assert files(directory) == [".a-2.part", ".a-3.part", "a", "b", "manifest.json"]
    fetch(cache)
    assert files(directory) == [".a-3.part", "a", "b", "manifest.json"]
    assert files(cache.directory) == [directory.name]


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["fsync", "utime", "open"])
def test_a_full_disk_is_explained_and_leaves_no_half_file(
    cache: BundleCache, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fetch(cache, b"before")
    with monkeypatch.context() as patch:
        patch.setattr(os, where, full)
        with pytest.raises(
            RepositoryError,
            match=r"cache .* cannot be written: No space left .*TASKROUTE_BUNDLE_CACHE_DIR",
        ):
            fetch(cache)
    halves = [path for path in cache.directory.rglob("*") if path.name.startswith(".")]
    assert halves == []
    assert fetch(cache, b"before", store=Store({})) == before  # nothing is asked for
    fetch(cache)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a file system: the injected fault above stands for it")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_disk_that_really_is_full(tiny_disk: Path) -> None:
    cache = BundleCache(tiny_disk / "cache", 10**9)
    served = fetch(cache, b"served")
    large = {"large": os.urandom(200_000)}
    with (
        pytest.raises(RepositoryError, match="No space left on device"),
        cache.bundle(b"m", entries(large), Store(large)),
    ):
        pass
    assert files(served) == ["a", "b", "manifest.json"]
    assert [path for path in tiny_disk.rglob("*") if path.stat().st_size > 1000] == []


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_text("a file"), "exists|Not a directory"),
        (lambda path: path.symlink_to(path), "symbolic links|exists"),
    ],
)
def test_a_directory_that_cannot_be_made(
    tmp_path: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    spoil(tmp_path / "cache")
    with pytest.raises(RepositoryError, match=f"cannot be written: .*({reason})"):
        fetch(BundleCache(tmp_path / "cache", 1000))
