"""A repository: the directory that holds every published version of every model.

ROOT/NAME/LATEST      the version served by default, replaced atomically, written last
ROOT/NAME/VERSION/    1, 2, 3, ...: one bundle each, never changed once published
ROOT/NAME/.staging-*  being written; removed by the next publisher once its own has died
ROOT/NAME/.lock       held while a version number is taken
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.bundle import MANIFEST, Bundle, Parent, read_bundle, write_bundle
from model.errors import BundleError, RepositoryError, UnknownModelError, UnknownVersionError
from model.network import RoutedNetwork

LATEST = "LATEST"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_STAGING = ".staging-"


@dataclass(frozen=True)
class Published:
    """What is published now, unread. Equal only while neither LATEST nor any file has changed."""

    version: int
    digest: str  # as Bundle.digest; empty without a manifest
    stamp: str  # of LATEST and of the bundle's files


class Repository:
    """Reads and publishes bundles. Any number of readers; publishers take turns by a lock file."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    def names(self) -> list[str]:
        """Models with a published version; RepositoryError if the root cannot be read."""
        try:
            entries = sorted(entry.name for entry in self.root.iterdir() if entry.is_dir())
        except OSError as error:
            raise _unreadable(self.root, error) from error
        return [name for name in entries if _NAME.fullmatch(name) and self.versions(name)]

    def versions(self, name: str) -> list[int]:
        """Published versions in ascending order; empty for an unknown name."""
        directory = self._directory(name)
        try:
            if not self.root.is_dir():
                raise RepositoryError(
                    f"repository {self.root} is not a directory; train or init a model into it",
                    repository=str(self.root),
                )
            entries = [entry.name for entry in directory.iterdir()] if directory.is_dir() else []
        except OSError as error:
            raise _unreadable(directory, error) from error
        return sorted(int(entry) for entry in entries if _VERSION.fullmatch(entry))

    def latest(self, name: str) -> int:
        """The version that LATEST names.

        Raises:
            UnknownModelError: nothing was ever published under ``name``.
            RepositoryError: LATEST is unreadable or names a version that is not there.
        """
        versions = self.versions(name)
        if not versions:
            others = ", ".join(self.names()) or "none"
            raise UnknownModelError(
                f"repository {self.root} has no model {name!r}; it has: {others}", model=name
            )
        file = self._directory(name) / LATEST
        try:
            text = file.read_text(errors="replace").strip()
        except FileNotFoundError as error:
            raise RepositoryError(
                f"{file} is missing although versions {versions} are published: the first "
                f"publication was cut short; publish again, or write {versions[-1]} into that file",
                file=str(file),
            ) from error
        except OSError as error:
            raise _unreadable(file, error) from error
        # Listed again: a version published since the first listing is there before LATEST names it.
        versions = self.versions(name)
        if not _VERSION.fullmatch(text) or int(text) not in versions:
            raise RepositoryError(
                f"{file} says {text[:40]!r}; published versions are {versions}", file=str(file)
            )
        return int(text)

    def path(self, name: str, version: int) -> Path:
        """Directory of one version, whether or not it exists."""
        return self._directory(name) / str(version)

    def read(self, name: str, version: int | None = None) -> Bundle:
        """A verified bundle, by default the latest.

        Raises:
            UnknownModelError, UnknownVersionError: never published here.
            BundleError: published, but damaged since.
        """
        return read_bundle(self.path(name, self._chosen(name, version)))

    def published(self, name: str, version: int | None = None) -> Published:
        """What :meth:`read` would read, at the price of one small file: to ask again and again.

        Raises:
            UnknownModelError, UnknownVersionError: never published here.
            RepositoryError: it cannot be read.
        """
        latest = self.root / name / LATEST
        version = self._chosen(name, version)
        directory = self.path(name, version)
        try:
            files = [latest, *sorted(directory.iterdir())]
            stamp = " ".join(map(_stamp, files))
            manifest = directory / MANIFEST
            # Without one read() says what is wrong.
            digest = _sha256(manifest) if manifest in files else ""
        except OSError as error:
            raise _unreadable(directory, error) from error
        return Published(version, digest, stamp)

    def publish(
        self,
        name: str,
        network: RoutedNetwork,
        metrics: Mapping[str, Any],
        card: str,
        parent: int | None = None,
    ) -> int:
        """Publish ``network`` as the next version and make it the latest; returns the version.

        Staged beside the versions, flushed, verified by loading, then renamed: a reader sees a
        whole bundle or none. After a crash at any point LATEST still names a whole bundle.

        Raises:
            RepositoryError: the directory cannot be written.
            BundleError: what was written does not load again; nothing is published.
        """
        directory = self._directory(name)
        version = 0
        try:
            link = Parent(version=parent, digest=self.read(name, parent).digest) if parent else None
            directory.mkdir(parents=True, exist_ok=True)
            with _staging(directory) as staging:
                write_bundle(staging, network.config, network.state_dict(), metrics, card, link)
                read_bundle(staging).network()
                _flush_directory(staging)
                with _locked(directory):
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

    def _chosen(self, name: str, version: int | None) -> int:
        """``version``, if it is there; by default the latest."""
        if version is None:
            return self.latest(name)
        if version not in (versions := self.versions(name)):
            if not versions:
                self.latest(name)  # raises UnknownModelError with the names that exist
            raise UnknownVersionError(
                f"model {name!r} has no version {version}; it has {versions}",
                model=name,
                version=version,
            )
        return version

    def _directory(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise UnknownModelError(
                f"{name[:100]!r} is not a model name: letters, digits, '.', '_' and '-' only",
                model=name,
            )
        return self.root / name


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
    """Remove what publishers that were killed left behind; call with the directory locked."""
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


def _sha256(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


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
