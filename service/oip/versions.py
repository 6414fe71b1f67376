"""The version that a load or unload asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.version_names import is_version
from service.core.errors import InvalidFieldError


def asked_version(parameters: Mapping[str, Any]) -> int | None:
    """The parameter ``version``, a number or its text; None without one.

    Raises:
        InvalidFieldError: it is no number from 1.
    """
    given = parameters.get("version")
    if given is None:
        return None
    text = str(given)
    if isinstance(given, bool) or not is_version(text):
        raise InvalidFieldError(
            f"parameters.version is {text[:40]!r}; versions are numbers from 1",
            field="parameters.version",
        )
    return int(text)
