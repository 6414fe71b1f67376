"""A request's time: how much it has, and where it went."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from service.core.errors import ClientGoneError, DeadlineError
from service.http.services import Services
from service.http.timeout import HEADER, timeout_s

Body = TypeVar("Body")


def request_timeout_s(request: Request, services: Services) -> float:
    """Seconds from the request's start to its deadline, by its header or the setting."""
    settings = services.settings
    return timeout_s(
        request.headers.get(HEADER), settings.request_timeout_ms, settings.max_request_timeout_ms
    )


async def read_in_time(reading: Awaitable[Body], services: Services, deadline: float) -> Body:
    """Await the body's reading, until ``deadline`` (clock seconds).

    Raises:
        DeadlineError: it took longer.
        ClientGoneError: the client went away within the body.
    """
    clock = services.core.clock
    begun = clock.now()
    try:
        async with asyncio.timeout(deadline - begun):
            given = await reading
    except TimeoutError:
        raise DeadlineError("the deadline passed while the body came in", stage="read") from None
    except ClientDisconnect:
        services.metrics.cancelled("read")
        raise ClientGoneError("the client closed the connection within the body") from None
    services.metrics.stage("read", clock.now() - begun)
    return given
