"""What a repository needs of the place that keeps its bundles: a directory or an object store.

Names have been checked by :class:`model.repository.Repository`, the only caller. Everything here
raises RepositoryError when the place cannot be read or written.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from model.bundle import Bundle
from model.errors import LatestMovedError

LATEST = "LATEST"


class BundleStore(Protocol):
    """Versions of models, by name, and the text LATEST beside the versions of each."""

    @property
    def location(self) -> str:
        """As a person writes it: a path or a URL."""
        ...

    def place(self, name: str, version: int | None = None) -> str:
        """Where a model, or a version of it, is or would be; for messages."""
        ...

    def names(self) -> list[str]:
        """Folders that may hold a model."""
        ...

    def versions(self, name: str) -> list[int]:
        """Published versions in ascending order; empty for an unknown name."""
        ...

    def latest(self, name: str) -> str | None:
        """What LATEST says; None without one."""
        ...

    def name_latest(self, name: str, version: int) -> None:
        """Let LATEST name a version that is there.

        Raises:
            UnknownVersionError: it has just been pruned; LATEST is what it was.
        """
        ...

    def manifest(self, name: str, version: int) -> bytes | None:
        """The manifest's bytes; None without one."""
        ...

    def stamp(self, name: str, version: int) -> str:
        """Differs once LATEST or any file of the version has been written again. Cheap."""
        ...

    def read(self, name: str, version: int) -> Bundle:
        """A verified bundle.

        Raises:
            BundleError: it is damaged.
        """
        ...

    def add(self, name: str, build: Callable[[Path], None], replaces: int | None = None) -> int:
        """Publish as the next version, and let LATEST name it; returns the version.

        Readers see a whole version or none, whatever happens to this process and whoever else
        publishes at the same time.

        Args:
            build: writes a bundle into an empty directory and verifies it.
            replaces: what LATEST has to name until then; None: whatever.

        Raises:
            LatestMovedError: it names another version.
        """
        ...

    def remove(self, name: str, version: int) -> bool:
        """Remove a version, if it is there and LATEST does not name it; whether it was removed."""
        ...

    def remove_abandoned(self, name: str, min_age_s: float) -> None:
        """Remove what publishers left that died at least ``min_age_s`` seconds ago."""
        ...

    def check_writable(self, name: str) -> None:
        """Raise RepositoryError unless this process may publish."""
        ...

    def workspace(self, name: str) -> Path:
        """A local directory, made by the caller, for what belongs to unpublished work."""
        ...


def check_latest(name: str, found: str | None, replaces: int | None) -> None:
    """Raise LatestMovedError unless LATEST, which says ``found``, names what is to be replaced."""
    if replaces is None or found == str(replaces):
        return
    raise LatestMovedError(
        f"{LATEST} of {name!r} names version {(found or 'none')[:40]}, not {replaces} any more: "
        "another publisher was faster, or it was rolled back",
        model=name,
        expected=replaces,
    )
