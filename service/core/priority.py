"""How soon a request's caller needs the answer."""

from __future__ import annotations

from enum import IntEnum


class Priority(IntEnum):
    """A level; smaller is more pressing, with the numbers of Triton's parameter ``priority``."""

    INTERACTIVE = 1
    BULK = 2

    @property
    def label(self) -> str:
        """As callers and metrics write it."""
        return self.name.lower()
