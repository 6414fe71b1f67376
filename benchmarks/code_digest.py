"""Which code a figure is of: kept figures of other code are measured again."""

from __future__ import annotations

import hashlib
from pathlib import Path

from benchmarks.server import ROOT

SOURCES = {".py", ".cpp", ".hpp"}


def code_digest(*folders: str, root: Path = ROOT) -> str:
    """Of every source below ``folders`` of the checkout."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SOURCES:
                digest.update(path.relative_to(root).as_posix().encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
