"""Memory that a burst left free is given back, between requests and only after growth."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.core.free_memory import FreeMemory, heap_trimmer, resident_bytes
from service.core.scheduler import Scheduler

MB = 2**20


class Process:
    """So much memory, of which so much is free; and requests being answered."""

    def __init__(self) -> None:
        self.held, self.free, self.trims = 700 * MB, 0, 0
        self.scheduler = SimpleNamespace(unanswered_requests=0)

    def trim(self) -> None:
        self.trims += 1
        self.held -= self.free
        self.free = 0

    def checker(self) -> FreeMemory:
        return FreeMemory(cast(Scheduler, self.scheduler), self.trim, lambda: self.held)

    def burst(self, size: int) -> None:
        self.held += size
        self.free += size


def test_growth_is_given_back_once_and_again_only_after_more_growth() -> None:
    process = Process()
    free = process.checker()

    async def scenario() -> None:
        await free.check()  # what the start left
        assert process.trims == 1
        process.burst(60 * MB)
        await free.check()
        assert (process.trims, process.held) == (2, 700 * MB)
        for _ in range(5):
            process.burst(3 * MB)
            await free.check()
        assert process.trims == 2, "ordinary requests need it again"
        process.burst(3 * MB)
        await free.check()
        assert (process.trims, process.held) == (3, 700 * MB)

    asyncio.run(scenario())


def test_while_files_cannot_be_opened_it_waits_for_better_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.core.free_memory._INTERVAL_S", 0.0)
    process, asked = Process(), asyncio.Event()
    looks = 0

    def resident() -> int:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise OSError(errno.EMFILE, "too many open files")
        if looks == 3:
            asked.set()
        return 700 * MB

    async def scenario() -> None:
        free = FreeMemory(cast(Scheduler, process.scheduler), process.trim, resident)
        running = asyncio.create_task(free.run())
        async with asyncio.timeout(20):
            await asked.wait()
        assert not running.done()
        running.cancel()

    asyncio.run(scenario())
    assert process.trims == 1


def test_while_requests_are_answered_nothing_is_trimmed() -> None:
    process = Process()
    free = process.checker()

    async def scenario() -> None:
        await free.check()
        process.burst(60 * MB)
        process.scheduler.unanswered_requests = 1
        await free.check()
        assert process.trims == 1
        process.scheduler.unanswered_requests = 0
        await free.check()
        assert process.trims == 2

    asyncio.run(scenario())


def test_memory_that_is_in_use_is_not_trimmed_for_again() -> None:
    process = Process()
    free = process.checker()

    async def scenario() -> None:
        await free.check()
        process.held += 100 * MB  # another version was loaded
        for _ in range(3):
            await free.check()
        assert process.trims == 2

    asyncio.run(scenario())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc and glibc")
def test_glibcs_heap_really_shrinks() -> None:
    trim = heap_trimmer()
    if trim is None:
        pytest.skip("not glibc")
    library: Any = ctypes.CDLL(None)
    library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    blocks = [library.malloc(64 * 1024) for _ in range(1000)]
    for block in blocks:
        ctypes.memset(block, 1, 64 * 1024)
    for block in blocks[:-1]:  # the last one holds the end of the heap in its place
        library.free(block)
    before = resident_bytes()
    trim()
    assert resident_bytes() < before - 40 * MB
    library.free(blocks[-1])
