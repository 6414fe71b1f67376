"""Resident memory of a process and everything it started, and how to end them, from /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class Memory:
    """Of a process tree."""

    rss_mb: float  # as `ps` says it; pages shared by several processes count several times
    pss_mb: float  # proportional: shared pages are divided among their users
    processes: int


def tree(pid: int) -> list[int]:
    """``pid`` and its descendants."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                # The program's name, in brackets, may itself hold brackets and blanks.
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                children[int(parent)].append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting.extend(children[found[-1]])
    return [one for one in found if (_PROC / str(one)).exists()]


def memory(pid: int) -> Memory:
    """Resident memory of ``pid`` and its descendants now; zeros if it is gone."""
    rss = pss = count = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            text = (_PROC / str(one) / "smaps_rollup").read_text()
            values = dict(line.split(":", 1) for line in text.splitlines()[1:] if ":" in line)
            rss += int(values["Rss"].split()[0])
            pss += int(values["Pss"].split()[0])
            count += 1
    return Memory(rss / 1024, pss / 1024, count)


def stop(pids: list[int], limit_s: float) -> None:
    """SIGTERM to the first of ``pids``, then SIGKILL to whichever of them is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pids[0], signal.SIGTERM)
    deadline = time.monotonic() + limit_s
    while any(map(_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _alive(pid: int) -> bool:
    try:
        state = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state != "Z"
