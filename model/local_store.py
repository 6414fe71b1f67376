"""A repository in a directory.

ROOT/NAME/LATEST      replaced atomically, written last
ROOT/NAME/VERSION/    1, 2, 3, ...: one bundle each, renamed into place whole
ROOT/NAME/.staging-*  being written or removed; removed by the next publisher once its own has died
ROOT/NAME/.lock       held while a version number is taken, LATEST written or a version removed
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from model.bundle import MANIFEST, Bundle, read_bundle
from model.errors import BundleError, RepositoryError, UnknownVersionError
from model.store import LATEST, check_latest
from model.version_names import version_numbers

_STAGING = ".staging-"


class LocalStore:
    """Any number of readers; publishers take turns by a lock file."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def location(self) -> str:
        return str(self.root)

    def place(self, name: str, version: int | None = None) -> str:
        return str(self.path(name, version))

    def path(self, name: str, version: int | None = None) -> Path:
        """Directory of a model or of one version, whether or not it exists."""
        return self.root / name / ("" if version is None else str(version))

    def names(self) -> list[str]:
        try:
            return sorted(entry.name for entry in self.root.iterdir() if entry.is_dir())
        except OSError as error:
            raise _unreadable(self.root, error) from error

    def versions(self, name: str) -> list[int]:
        directory = self.path(name)
        try:
            if not self.root.is_dir():
                raise RepositoryError(
                    f"repository {self.root} is not a directory; train or init a model into it",
                    repository=str(self.root),
                )
            entries = [entry.name for entry in directory.iterdir()] if directory.is_dir() else []
        except OSError as error:
            raise _unreadable(directory, error) from error
        return version_numbers(entries)

    def latest(self, name: str) -> str | None:
        file = self.path(name) / LATEST
        try:
            return file.read_text(errors="replace").strip()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _unreadable(file, error) from error

    def name_latest(self, name: str, version: int) -> None:
        directory = self.path(name)
        try:
            with _locked(directory):
                if version not in self.versions(name):
                    raise UnknownVersionError(
                        f"model {name!r} has no version {version} any more: it was just pruned",
                        model=name,
                        version=version,
                    )
                _replace_text(directory / LATEST, f"{version}\n")
        except OSError as error:
            raise RepositoryError(
                f"cannot write {directory / LATEST}: {error.strerror or error}", path=str(directory)
            ) from error

    def manifest(self, name: str, version: int) -> bytes | None:
        file = self.path(name, version) / MANIFEST
        try:
            return file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(file, error) from error

    def stamp(self, name: str, version: int) -> str:
        directory = self.path(name, version)
        try:
            files = [self.path(name) / LATEST, *sorted(directory.iterdir())]
            return " ".join(map(_stamp, files))
        except OSError as error:
            raise _unreadable(directory, error) from error

    def read(self, name: str, version: int) -> Bundle:
        return read_bundle(self.path(name, version))

    def add(self, name: str, build: Callable[[Path], None], replaces: int | None = None) -> int:
        """Staged beside the versions, flushed, verified, then renamed.

        After a crash at any point LATEST still names a whole bundle.
        """
        directory = self.path(name)
        version = 0
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with _staging(directory) as staging:
                build(staging)
                _flush_directory(staging)
                with _locked(directory):
                    check_latest(name, self.latest(name), replaces)
                    number = max(self.versions(name), default=0) + 1
                    staging.rename(directory / str(number))
                    version = number
                    _flush_directory(directory)
                    _replace_text(directory / LATEST, f"{version}\n")
        except BundleError as error:
            raise BundleError(f"not published: {error}", **error.details) from error
        except OSError as error:
            state = f" (version {version} is whole, {LATEST} may not name it)" if version else ""
            raise RepositoryError(
                f"cannot publish to {directory}: {error.strerror or error}{state}",
                path=str(directory),
            ) from error
        return version

    def remove(self, name: str, version: int) -> bool:
        directory = self.path(name)
        gone = directory / f"{_STAGING}{uuid.uuid4().hex}"
        try:
            with _locked(directory):
                if self.latest(name) == str(version) or version not in self.versions(name):
                    return False
                self.path(name, version).rename(gone)  # at once for readers; the files follow
        except OSError as error:
            raise RepositoryError(
                f"cannot remove {self.path(name, version)}: {error.strerror or error}",
                path=str(directory),
            ) from error
        shutil.rmtree(gone, ignore_errors=True)
        return True

    def remove_abandoned(self, name: str, min_age_s: float) -> None:
        """Whatever its age: the kernel tells which publishers live."""
        directory = self.path(name)
        try:
            with _locked(directory):
                _remove_orphans(directory)
        except OSError as error:
            raise RepositoryError(
                f"cannot tidy {directory}: {error.strerror or error}", path=str(directory)
            ) from error

    def check_writable(self, name: str) -> None:
        directory = self.path(name)
        probe = directory / ".writable"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink(missing_ok=True)  # another run may look at the same time
        except OSError as error:
            raise RepositoryError(
                f"cannot publish to {directory}: {error.strerror or error}", path=str(directory)
            ) from error

    def workspace(self, name: str) -> Path:
        return self.path(name)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """One publisher at a time; the kernel drops the lock of a process that dies."""
    with (directory / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _staging(directory: Path) -> Iterator[Path]:
    """A new directory beside the versions, removed at the end unless it was renamed."""
    with _locked(directory):
        _remove_orphans(directory)
        path = directory / f"{_STAGING}{uuid.uuid4().hex}"
        path.mkdir()
        held = os.open(path, os.O_RDONLY)
        with suppress(OSError):  # no such locks on this file system: nobody will remove orphans
            fcntl.flock(held, fcntl.LOCK_EX)  # says that its publisher lives
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(held)


def _remove_orphans(directory: Path) -> None:
    """Remove what processes that were killed left behind; call with the directory locked."""
    for path in directory.glob(f"{_STAGING}*"):
        with suppress(OSError):  # a living one may be removing it just now
            held = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its publisher lives
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(held)
    for path in directory.glob(f".{LATEST}-*"):
        path.unlink(missing_ok=True)


def _replace_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _flush_directory(path.parent)


def _stamp(path: Path) -> str:
    try:
        found = path.stat()
    except FileNotFoundError:  # LATEST, where a version is asked for by its number
        return f"{path.name}:-"
    return f"{path.name}:{found.st_size}:{found.st_mtime_ns}:{found.st_ino}"


def _flush_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unreadable(path: Path, error: OSError) -> RepositoryError:
    return RepositoryError(f"{path} cannot be read: {error.strerror or error}", path=str(path))
