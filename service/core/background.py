"""Work beside the serving one: on a thread of its own that yields the processors to the engine."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")

_NICENESS = 10
_NAME = "background"


async def in_background(function: Callable[[], Result]) -> Result:
    """Run ``function`` on a new thread of low priority, which ends with it.

    A thread of its own, because its low priority cannot be taken back and because the thread pools
    that PyTorch makes for it, and their memory, go with it.
    """
    pool = ThreadPoolExecutor(1, _NAME, initializer=_yield_to_others)
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, function)
    finally:
        pool.shutdown(wait=False)


def background_threads() -> list[threading.Thread]:
    """Those at work, whether or not anybody still waits for them."""
    return [thread for thread in threading.enumerate() if thread.name.startswith(f"{_NAME}_")]


def _yield_to_others() -> None:
    if sys.platform == "linux":  # elsewhere a priority belongs to the whole process
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
