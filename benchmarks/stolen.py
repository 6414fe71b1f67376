"""Processor time that the host of a virtual machine gave to others meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

_STEAL = 7  # man 5 proc_stat: user, nice, system, idle, iowait, irq, softirq, steal


def stolen_since(path: Path = Path("/proc/stat")) -> Callable[[], float | None]:
    """Begins to count; each call of what it returns gives the share stolen since.

    None where the system does not say.
    """
    before = _times(path)

    def share() -> float | None:
        now = _times(path)
        if before is None or now is None:
            return None
        spent = [late - early for early, late in zip(before, now, strict=True)]
        return spent[_STEAL] / max(sum(spent), 1)

    return share


def _times(path: Path) -> list[int] | None:
    """Clock ticks of all processors, by kind."""
    try:
        return [int(word) for word in path.read_text().split()[1 : _STEAL + 2]]
    except OSError:
        return None
