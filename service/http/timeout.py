"""How long a request may take."""

from __future__ import annotations

import math

from service.core.errors import InvalidFieldError

HEADER = "X-Request-Timeout-Ms"


def timeout_s(header: str | None, default_ms: float, max_ms: float) -> float:
    """Seconds from the header's milliseconds, at most ``max_ms``.

    Raises:
        InvalidFieldError: the header is not a positive number.
    """
    if header is None:
        return default_ms / 1000
    try:
        asked = float(header)
    except ValueError:
        asked = math.nan
    if not asked > 0:
        raise InvalidFieldError(
            f"{HEADER} is {header[:40]!r}; expected milliseconds, a number above 0", field=HEADER
        )
    return min(asked, max_ms) / 1000
