"""How models and their versions are named in a repository."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


def is_model_name(text: str) -> bool:
    """Whether a model may be called so: no name can leave the repository."""
    return _NAME.fullmatch(text) is not None


def is_version(text: str) -> bool:
    return _VERSION.fullmatch(text) is not None


def version_numbers(entries: Iterable[str]) -> list[int]:
    """Those entries that are versions, ascending."""
    return sorted(int(entry) for entry in entries if is_version(entry))
