"""Whether a request's key lets it in."""

from __future__ import annotations

from collections.abc import Mapping

from service.core.errors import KeyRequiredError, KeyUnknownError, ScopeMissingError
from service.key_file import KeyRing, KeyScope
from service.record import RequestRecord


def check_key(
    ring: KeyRing, headers: Mapping[str, str], needed: KeyScope, what: str, record: RequestRecord
) -> None:
    """Pass a request whose headers (or metadata) have a key for ``needed``; its id is noted.

    Args:
        headers: by name; names in lower case find theirs.
        what: is asked for, as a person would call it.

    Raises:
        AccessError: in one of its kinds.
    """
    presented = _presented(headers)
    if presented is None:
        raise KeyRequiredError(
            f"{what} needs an API key: send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
        )
    entry = ring.find(presented)
    if entry is None:
        raise KeyUnknownError("the API key is not known here: wrong, or revoked")
    record.key = entry.id
    if needed not in entry.scopes:
        raise ScopeMissingError(
            f"key {entry.id} may {' and '.join(sorted(entry.scopes))}, but {what} needs the scope "
            f"{needed}",
            needed=needed,
        )


def _presented(headers: Mapping[str, str]) -> str | None:
    if key := headers.get("x-api-key", "").strip():
        return key
    scheme, _, key = headers.get("authorization", "").strip().partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key.strip() else None
