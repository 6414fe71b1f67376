"""When to ask again: a plan that both clients follow, and that knows nothing of sockets."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

RETRIED_STATUSES = frozenset({429, 503})


@dataclass(frozen=True)
class Retries:
    """How often, and how long at most, to wait for a server that says *later*.

    A wait is what Retry-After asks for, and without it doubles from ``first_s``; up to a quarter is
    added by chance, or refused clients would all come back together. A server that asks for more
    than ``max_wait_s`` is not asked again.
    """

    attempts: int = 5  # requests in all, the first included
    first_s: float = 0.5
    max_wait_s: float = 30.0
    chance: Callable[[], float] = field(default=random.random)  # 0 to 1

    def wait_s(self, attempt: int, response: httpx.Response | None) -> float | None:
        """Seconds to wait after attempt ``attempt`` (1, 2, ...) failed; None: give up.

        ``response`` is None where there was none: the connection failed.
        """
        if attempt >= self.attempts:
            return None
        if response is not None and response.status_code not in RETRIED_STATUSES:
            return None
        asked = None if response is None else retry_after_s(response)
        wait = self.first_s * 2.0 ** (attempt - 1) if asked is None else asked
        if asked is not None and asked > self.max_wait_s:
            return None
        return min(wait, self.max_wait_s) * (1 + self.chance() / 4)


def retry_after_s(response: httpx.Response) -> float | None:
    """Seconds that a response asks to wait: a number or a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
