"""The kinds of data a SOURCE argument can name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from training.sources.base import Dataset, SourceOptions


@dataclass(frozen=True)
class SourceKind:
    """``scheme:argument`` on the command line, and the function that reads it."""

    scheme: str
    argument: str
    """What follows the colon, for the help text: ``FILE.npz``."""
    summary: str
    read: Callable[[str, SourceOptions], Dataset]
    """Takes what follows the colon; raises DataError for data that cannot be used."""
