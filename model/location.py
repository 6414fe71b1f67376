"""Where a repository is: a directory, or a URL of a file system that fsspec knows."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::[A-Za-z][A-Za-z0-9+.-]*)*://")


def is_url(location: str | os.PathLike[str]) -> bool:
    """Whether fsspec is asked; ``file://`` is a directory like any other."""
    text = os.fspath(location)
    return _URL.match(text) is not None and not text.startswith("file://")


def local_path(location: str | os.PathLike[str]) -> Path:
    """The directory that a path or a ``file://`` URL names."""
    text = os.fspath(location)
    return Path(unquote(urlsplit(text).path) if text.startswith("file://") else text)


def split_model(location: str) -> tuple[str, str]:
    """REPOSITORY/NAME as its two parts, of a path or of a URL."""
    if not is_url(location):
        path = local_path(location)
        return str(path.parent), path.name
    repository, _, name = location.rstrip("/").rpartition("/")
    return repository, name
