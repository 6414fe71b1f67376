"""A repository: every published version of every model, in a directory or on an object store.

ROOT/NAME/LATEST      the version served by default, written last
ROOT/NAME/VERSION/    1, 2, 3, ...: one bundle each, never changed once published

ROOT is a path or a URL (``s3://bucket/prefix``, ``gs://...``); :mod:`model.local_store` and
:mod:`model.remote_store` say what else they keep there.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from model.bundle import Bundle, Parent, parse_manifest, read_bundle, write_bundle
from model.errors import BundleError, RepositoryError, UnknownModelError, UnknownVersionError
from model.local_store import LocalStore
from model.location import is_url, local_path
from model.remote_options import RemoteOptions
from model.store import LATEST, BundleStore
from model.task_network import TaskNetwork
from model.version_names import is_model_name, is_version

ABANDONED_AFTER_S = 24 * 3600.0
"""A publisher on an object store that has not finished after so long counts as dead."""


@dataclass(frozen=True)
class Published:
    """What is published now, unread. Equal only while neither LATEST nor any file has changed."""

    version: int
    digest: str  # as Bundle.digest; empty without a manifest
    stamp: str  # of LATEST and of the bundle's files


class Repository:
    """Reads and publishes bundles. Any number of readers and publishers, in any processes.

    Args:
        root: a path or a URL.
        remote: for a URL: where copies are kept and how long the store may take.

    Raises:
        RepositoryError: a URL of a file system that is not installed.
    """

    def __init__(self, root: str | os.PathLike[str], remote: RemoteOptions | None = None) -> None:
        self._store: BundleStore
        if is_url(root):
            from model.remote_store import RemoteStore

            self._store = RemoteStore(str(root), remote or RemoteOptions())
        else:
            self._store = LocalStore(local_path(root))

    @property
    def location(self) -> str:
        """As a person writes it: a path or a URL."""
        return self._store.location

    @property
    def root(self) -> Path:
        """The directory; RepositoryError for an object store."""
        return self._local().root

    def names(self) -> list[str]:
        """Models with a published version; RepositoryError if the root cannot be read."""
        return [name for name in self._store.names() if is_model_name(name) and self.versions(name)]

    def versions(self, name: str) -> list[int]:
        """Published versions in ascending order; empty for an unknown name."""
        return self._store.versions(_checked(name))

    def latest(self, name: str) -> int:
        """The version that LATEST names.

        Raises:
            UnknownModelError: nothing was ever published under ``name``.
            RepositoryError: LATEST is unreadable or names a version that is not there.
        """
        text = self._store.latest(_checked(name))
        # Listed after: what LATEST names was there before.
        versions = self.versions(name)
        if not versions:
            others = ", ".join(self.names()) or "none"
            raise UnknownModelError(
                f"repository {self.location} has no model {name!r}; it has: {others}", model=name
            )
        file = f"{self._store.place(name)}/{LATEST}"
        if text is None:
            raise RepositoryError(
                f"{file} is missing although versions {versions} are published: the first "
                f"publication was cut short; publish again, or write {versions[-1]} into that file",
                file=file,
            )
        if not is_version(text) or int(text) not in versions:
            raise RepositoryError(
                f"{file} says {text[:40]!r}; published versions are {versions}", file=file
            )
        return int(text)

    def path(self, name: str, version: int) -> Path:
        """Directory of one version, whether or not it exists; RepositoryError on object stores."""
        return self._local().path(_checked(name), version)

    def workspace(self, name: str) -> Path:
        """A local directory, perhaps not there yet, for what a run has not published."""
        return self._store.workspace(_checked(name))

    def check_writable(self, name: str) -> None:
        """Raise RepositoryError unless this process may publish."""
        self._store.check_writable(_checked(name))

    def read(self, name: str, version: int | None = None) -> Bundle:
        """A verified bundle, by default the latest.

        Raises:
            UnknownModelError, UnknownVersionError: never published here.
            BundleError: published, but damaged since.
            RepositoryError: it cannot be fetched, or not be kept in the local cache.
        """
        return self._store.read(name, self._chosen(name, version))

    def published(self, name: str, version: int | None = None) -> Published:
        """What :meth:`read` would read, at the price of one small file: to ask again and again.

        Raises:
            UnknownModelError, UnknownVersionError: never published here.
            RepositoryError: it cannot be read.
        """
        version = self._chosen(name, version)
        # First the stamp: a file that is written in between is seen at the next look.
        stamp = self._store.stamp(name, version)
        manifest = self._store.manifest(name, version)
        # Without one read() says what is wrong.
        digest = "" if manifest is None else f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        return Published(version, digest, stamp)

    def publish(
        self,
        name: str,
        network: TaskNetwork,
        metrics: Mapping[str, Any],
        card: str,
        parent: int | None = None,
        replaces: int | None = None,
    ) -> int:
        """Publish ``network`` as the next version and make it the latest; returns the version.

        Built and verified out of sight: a reader sees a whole bundle or none, whenever this process
        dies and whoever publishes at the same time.

        Args:
            replaces: publish only while LATEST names this version.

        Raises:
            LatestMovedError: LATEST names another one; nothing is published.
            RepositoryError: the repository cannot be written.
            BundleError: what was written does not load again; nothing is published.
        """
        _checked(name)
        link = self._parent(name, parent) if parent else None

        def build(staging: Path) -> None:
            write_bundle(staging, network.config, network.state_dict(), metrics, card, link)
            read_bundle(staging).any_network()

        return self._store.add(name, build, replaces)

    def set_latest(self, name: str, version: int) -> None:
        """Let LATEST name a published version: to roll back, or to mend LATEST.

        Raises:
            UnknownModelError, UnknownVersionError: it is not published.
            RepositoryError: LATEST cannot be written.
        """
        self._store.name_latest(name, self._chosen(name, version))

    def prune(
        self,
        name: str,
        keep: int,
        min_age_s: float = 0.0,
        protect: Collection[int] = (),
        *,
        dry_run: bool = False,
    ) -> list[int]:
        """Remove old versions; returns those removed, ascending.

        Never the one that LATEST names, whoever changes that meanwhile. What dead publishers left
        goes too; what is being published stays.

        Args:
            keep: how many of the highest versions stay, at least 1.
            min_age_s: versions made less than so many seconds ago stay, and damaged ones, whose
                age is unknown.
            protect: versions that stay.
            dry_run: remove nothing, return what would go.

        Raises:
            UnknownModelError: nothing is published under ``name``.
            RepositoryError: it cannot be read or written.
        """
        if keep < 1:
            raise ValueError(f"keep is {keep}: the highest version always stays")
        stay = {self.latest(name), *protect}
        newest_first = self.versions(name)[::-1]
        old = [
            version
            for version in newest_first[keep:][::-1]
            if version not in stay and (not min_age_s or self._age_s(name, version) >= min_age_s)
        ]
        if dry_run:
            return old
        self._store.remove_abandoned(name, ABANDONED_AFTER_S)
        return [version for version in old if self._store.remove(name, version)]

    def _age_s(self, name: str, version: int) -> float:
        """Seconds since a version was made; 0 where nobody can tell."""
        raw = self._store.manifest(name, version)
        try:
            made = parse_manifest(self._store.place(name, version), raw or b"").created_at
            return time.time() - datetime.fromisoformat(made).timestamp()
        except (BundleError, ValueError):
            return 0.0

    def _parent(self, name: str, version: int) -> Parent:
        try:
            return Parent(version=version, digest=self.read(name, version).digest)
        except BundleError as error:
            raise BundleError(f"not published: {error}", **error.details) from error

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

    def _local(self) -> LocalStore:
        if isinstance(self._store, LocalStore):
            return self._store
        raise RepositoryError(
            f"{self.location} is no directory: this needs a repository on a local disk",
            repository=self.location,
        )


def _checked(name: str) -> str:
    if not is_model_name(name):
        raise UnknownModelError(
            f"{name[:100]!r} is not a model name: letters, digits, '.', '_' and '-' only",
            model=name,
        )
    return name
