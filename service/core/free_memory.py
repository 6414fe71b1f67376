"""Gives memory that a burst left free back to the system.

glibc keeps what was freed: up to 64 MB at the end of its heap, once large blocks were freed, and
all that lies below a block still in use. Bodies and images of many megabytes at the same time would
so stay in the process's size for good, as if they had leaked. To have glibc keep less would make
the engine fetch its activations from the system in every batch; between requests nobody waits.
"""

from __future__ import annotations

import asyncio
import ctypes
import math
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from service.core.scheduler import Scheduler

_INTERVAL_S = 2.0
# Less than this above the last time is what ordinary requests need again.
_SLACK_BYTES = 16 * 2**20
_STATM = Path("/proc/self/statm")


class FreeMemory:
    """Trims the heap between requests, once the process has grown. Event loop only.

    Args:
        trim: gives back what is free; any thread.
        resident: bytes of memory that the process holds.
    """

    def __init__(
        self, scheduler: Scheduler, trim: Callable[[], None], resident: Callable[[], int]
    ) -> None:
        self._scheduler = scheduler
        self._trim = trim
        self._resident = resident
        self._least: float = math.inf  # bytes, since there is nothing more to give back

    async def check(self) -> None:
        """Trim, if the process has grown and no request is being answered."""
        held = self._resident()
        if held <= self._least + _SLACK_BYTES and self._least != math.inf:
            self._least = min(self._least, held)
        elif not self._scheduler.unanswered_requests:
            await asyncio.to_thread(self._trim)
            self._least = self._resident()

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL_S)
            with suppress(OSError):  # too many open files, for now
                await self.check()


def heap_trimmer() -> Callable[[], None] | None:
    """glibc's ``malloc_trim``; None where there is another allocator or no ``/proc``."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "malloc_trim") or not _STATM.exists():
        return None
    return lambda: library.malloc_trim(0)


def resident_bytes() -> int:
    """Bytes of memory that this process holds."""
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
