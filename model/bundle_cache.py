"""Local copies of bundles from an object store, each in a directory named by its digest.

A file is downloaded to a temporary name, checked against the manifest, then renamed in: what has
its final name was whole. Any number of processes share one cache: two that miss the same file both
fetch it, and the last rename wins, with the same bytes. A bundle that is being read is locked
against removal; to make room the least recently read of the others go first.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from model.bundle import MANIFEST, FileEntry
from model.errors import BundleError, RepositoryError
from model.remote_options import CACHE_VARIABLE

MAX_BYTES_VARIABLE = "TASKROUTE_BUNDLE_CACHE_BYTES"
_PART = ".part"
_PART_LOCKED_WITHIN_S = 60.0  # the writer of a part needs a moment to lock it, or writes little
_REMOVED = ".removed-"

Download = Callable[[str, FileEntry], Iterator[bytes]]


class BundleCache:
    """One cache directory, bounded in bytes."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.directory = directory
        self._max_bytes = max_bytes

    @contextmanager
    def bundle(
        self, manifest: bytes, files: Mapping[str, FileEntry], download: Download
    ) -> Iterator[Path]:
        """A directory with the manifest and ``files``, which stays while the block runs.

        Files that are there are not read here: the reader of the bundle checks them.

        Args:
            download: a file's bytes in pieces; called for those that are not there.

        Raises:
            BundleError: what is downloaded is not what the manifest says.
            RepositoryError: no room, or the directory cannot be written.
        """
        own = self._own(manifest)
        with ExitStack() as stack:
            with self._explained():
                stack.enter_context(_in_use(own))
                _remove_dead_parts(own)
                missing = {name: entry for name, entry in files.items() if _lacks(own, name, entry)}
                self._make_room(own, sum(entry.bytes for entry in missing.values()))
                for name, entry in missing.items():
                    _fetch(own / name, entry, download(name, entry))
                _replace(own / MANIFEST, manifest)
                os.utime(own)  # read just now
            yield own

    def discard_damaged(self, manifest: bytes, files: Mapping[str, FileEntry]) -> list[str]:
        """Remove cached files that differ from the manifest.

        Returns:
            Their names, and those of files that have vanished.

        Raises:
            RepositoryError: a file can neither be read nor removed.
        """
        own = self._own(manifest)
        with self._explained():
            return [name for name, entry in files.items() if _discard_if_damaged(own / name, entry)]

    def _own(self, manifest: bytes) -> Path:
        return self.directory / hashlib.sha256(manifest).hexdigest()

    def _make_room(self, own: Path, needed: int) -> None:
        """Remove other bundles, the least recently read first, until ``needed`` bytes fit."""
        sizes = {path: _bytes_in(path) for path in self._bundles()}
        total = sum(sizes.values())
        for path in sorted(sizes, key=_last_read):
            if total + needed <= self._max_bytes:
                return
            if path != own and _remove(path):
                total -= sizes[path]
        if total + needed > self._max_bytes:
            raise RepositoryError(
                f"the cache {self.directory} may hold {self._max_bytes} bytes "
                f"({MAX_BYTES_VARIABLE}); {needed} more are needed, and {total} are in use: "
                "raise the limit",
                cache=str(self.directory),
                bytes_needed=needed,
            )

    def _bundles(self) -> list[Path]:
        """Every bundle's directory; what a killed process was removing is removed."""
        bundles = []
        for path in self.directory.iterdir():
            if path.name.startswith(_REMOVED):
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_dir():
                bundles.append(path)
        return bundles

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RepositoryError(
                f"the cache {self.directory} cannot be written: {error.strerror or error}; free "
                f"some space there, or name another directory with {CACHE_VARIABLE}",
                cache=str(self.directory),
            ) from error


@contextmanager
def _in_use(directory: Path) -> Iterator[None]:
    """Make the directory, if need be, and keep every process from removing it."""
    descriptor = _locked(directory)
    try:
        yield
    finally:
        os.close(descriptor)


def _locked(directory: Path) -> int:
    """A descriptor of the directory with a shared lock, made again if it was just removed."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    while True:
        # Not ``exist_ok``: that looks again what is there, and fails if it was removed meanwhile.
        with suppress(FileExistsError):
            directory.mkdir()
        with suppress(FileNotFoundError):
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH)
                if os.path.samestat(os.fstat(descriptor), directory.stat()):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)


def _remove(directory: Path) -> bool:
    """Remove a bundle that nobody reads; whether it is gone."""
    gone = directory.with_name(f"{_REMOVED}{uuid.uuid4().hex}")
    try:
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while it is read
            directory.rename(gone)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    shutil.rmtree(gone, ignore_errors=True)
    return True


def _fetch(path: Path, entry: FileEntry, pieces: Iterator[bytes]) -> None:
    part = path.with_name(f".{path.name}-{uuid.uuid4().hex}{_PART}")
    digest = hashlib.sha256()
    try:
        with part.open("xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # says that its writer lives
            for piece in pieces:
                file.write(piece)
                digest.update(piece)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != entry.sha256:
            raise BundleError(
                f"{path.name} has sha256 {digest.hexdigest()[:12]}..., the manifest says "
                f"{entry.sha256[:12]}...: altered",
                file=path.name,
            )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _remove_dead_parts(directory: Path) -> None:
    """Remove what downloads that were killed left."""
    for part in directory.glob(f".*{_PART}"):
        with suppress(OSError), part.open("rb") as file:  # finished, or its writer lives
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - part.stat().st_mtime > _PART_LOCKED_WITHIN_S:
                part.unlink()


def _replace(path: Path, data: bytes) -> None:
    if path.is_file() and path.read_bytes() == data:
        return
    part = path.with_name(f".{path.name}-{uuid.uuid4().hex}{_PART}")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _discard_if_damaged(path: Path, entry: FileEntry) -> bool:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return True
    if found == entry.sha256:
        return False
    path.unlink(missing_ok=True)
    return True


def _lacks(directory: Path, name: str, entry: FileEntry) -> bool:
    try:
        return (directory / name).stat().st_size != entry.bytes
    except FileNotFoundError:
        return True


def _bytes_in(directory: Path) -> int:
    """The sizes of its files; nothing of what another process removes meanwhile."""
    total = 0
    with suppress(OSError), os.scandir(directory) as files:
        for file in files:
            with suppress(OSError):
                total += file.stat().st_size
    return total


def _last_read(directory: Path) -> float:
    try:
        return directory.stat().st_mtime
    except OSError:
        return 0.0
