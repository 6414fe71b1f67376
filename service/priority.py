"""The header that names a request's priority level."""

from __future__ import annotations

from service.core.errors import InvalidFieldError
from service.core.priority import Priority

HEADER = "X-Request-Priority"
_LEVELS = {priority.label: priority for priority in Priority}


def header_priority(header: str | None) -> Priority:
    """The level that the header names; interactive without one.

    Raises:
        InvalidFieldError: there is no such level.
    """
    if header is None:
        return Priority.INTERACTIVE
    level = _LEVELS.get(header.strip().lower())
    if level is None:
        raise InvalidFieldError(
            f"{HEADER} is {header[:40]!r}; expected {' or '.join(_LEVELS)}", field=HEADER
        )
    return level
