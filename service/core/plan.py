"""Which models and versions a process is to serve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Wanted = int | Literal["latest"]


@dataclass(frozen=True)
class ModelPlan:
    """One model: the version that answers, and those beside it."""

    name: str
    version: Wanted = "latest"
    beside: tuple[int, ...] = ()  # asked for by their numbers
    canary: Wanted | None = None
    canary_share: float = 0.0  # of the requests that name no version
    shadow: Wanted | None = None

    @property
    def places(self) -> int:
        """Versions of it that are in memory at once."""
        return 1 + len(self.beside) + (self.canary is not None) + (self.shadow is not None)


def number(wanted: Wanted) -> int | None:
    """The version's number; None for the latest, whichever that is."""
    return None if wanted == "latest" else wanted
