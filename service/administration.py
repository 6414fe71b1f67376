"""Who may change what is served."""

from __future__ import annotations

from service.core.errors import AdminOffError
from service.settings import Settings


def check_administration(settings: Settings) -> None:
    """Keys with the scope ``admin`` are checked before any route; without keys a setting decides.

    Raises:
        AdminOffError: there are no keys, and the setting is off.
    """
    if settings.api_keys_file is None and not settings.open_admin:
        raise AdminOffError(
            "administration is off, because nobody can be told from anybody: give API keys "
            "(api_keys_file), or let everybody in (open_admin)"
        )
