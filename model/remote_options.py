"""How a repository on an object store is read, and where its local files are."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

CACHE_VARIABLE = "TASKROUTE_BUNDLE_CACHE_DIR"


def default_cache_dir() -> Path:
    """``TASKROUTE_BUNDLE_CACHE_DIR``, else the user's cache directory."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    return _user_directory("XDG_CACHE_HOME", ".cache")


def default_state_dir() -> Path:
    """For what must outlive the process and is no cache: the user's state directory."""
    return _user_directory("XDG_STATE_HOME", ".local/state")


@dataclass(frozen=True)
class RemoteOptions:
    """Where copies are kept, how many bytes of them, and how long the store may take."""

    cache_dir: Path = field(default_factory=default_cache_dir)
    cache_bytes: int = 10 * 2**30
    timeout_s: float = 20.0  # of one answer; files are fetched in pieces with this time for each


def _user_directory(variable: str, below_home: str) -> Path:
    if named := os.environ.get(variable):
        return Path(named) / "taskroute"
    try:
        return Path.home() / below_home / "taskroute"
    except RuntimeError:  # a container's user without an entry in the user database
        return Path(tempfile.gettempdir()) / f"taskroute-{os.getuid()}"
