"""The version that a load or unload asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.core.errors import InvalidFieldError


def asked_version(parameters: Mapping[str, Any]) -> int | None:
    """The parameter ``version``, a number or its text; None without one.

    Raises:
        InvalidFieldError: it is no number from 1.
    """
    given = parameters.get("version")
    text = str(given)
    if given is None:
        return None
    if isinstance(given, bool) or not (text.isascii() and text.isdigit() and int(text) > 0):
        raise InvalidFieldError(
            f"parameters.version is {text[:40]!r}; versions are numbers from 1",
            field="parameters.version",
        )
    return int(text)
