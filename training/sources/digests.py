"""``sha256:...`` of what decides a data set's pixels and labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def file_digest(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def files_digest(tables: Iterable[Path], images: Iterable[Path] = (), choices: str = "") -> str:
    """Of tables by their bytes, and of image files by size and time of their last change.

    Args:
        choices: what else decides how the tables are read, as text.
    """
    digest = hashlib.sha256()
    for table in tables:
        digest.update(table.read_bytes())
    digest.update(choices.encode())
    for image in images:  # there may be a million: reading them all would take as long as decoding
        status = image.stat()
        digest.update(f"{status.st_size},{status.st_mtime_ns};".encode())
    return f"sha256:{digest.hexdigest()}"
