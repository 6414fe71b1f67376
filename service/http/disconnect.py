"""Stops working for a client that has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.types import Receive

from service.core.errors import ClientGoneError

Result = TypeVar("Result")


async def unless_disconnected(receive: Receive, work: Awaitable[Result]) -> Result:
    """Await ``work``, but cancel it when the client closes the connection.

    The request's body must have been read: what ``receive`` brings next is the end.

    Raises:
        ClientGoneError: the client closed first.
    """
    me = asyncio.current_task()
    assert me is not None  # noqa: S101 - coroutines of a request run in a task
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        # As asyncio.timeout does it: interrupts what `work` waits for, without a task of its own.
        gone = True
        me.cancel()

    watcher = asyncio.create_task(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if gone and me.uncancel() == 0:
            raise ClientGoneError("the client closed the connection before the answer") from None
        raise
    finally:
        watcher.cancel()
