"""API keys: a file of salted digests, read again when it changes.

A key is ``tr_ID_SECRET``. The file knows the id, what the key may do, and a salted SHA-256 of the
secret. A slow hash would protect guessable passwords; these secrets are 256 random bits, which
nobody guesses, and a slow hash on every request would be a way to stop the service.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.core.clock import Clock

logger = logging.getLogger(__name__)

KeyScope = Literal["predict", "admin"]

_PREFIX = "tr"
_HEX_256 = r"^[0-9a-f]{64}$"
_MAX_KEY_CHARS = 200  # nothing longer is hashed
_CHECK_EVERY_S = 1.0


class KeyFileError(Exception):
    """A file of keys that cannot be used; the message names it and the reason."""


class KeyEntry(BaseModel):
    """What is kept of one key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    name: str = ""
    scopes: frozenset[KeyScope] = Field(min_length=1)
    salt: str = Field(pattern=r"^[0-9a-f]{32}$")
    sha256: str = Field(pattern=_HEX_256)
    created_at: str = ""


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[KeyEntry]


def make_key(scopes: Iterable[KeyScope], name: str = "") -> tuple[str, KeyEntry]:
    """A new key, to be shown once, and the entry that recognises it."""
    key_id, secret, salt = secrets.token_hex(6), secrets.token_hex(32), secrets.token_hex(16)
    entry = KeyEntry(
        id=key_id,
        name=name,
        scopes=frozenset(scopes),
        salt=salt,
        sha256=_digest(salt, secret),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return f"{_PREFIX}_{key_id}_{secret}", entry


def read_keys(path: Path) -> list[KeyEntry]:
    """All entries of a file.

    Raises:
        KeyFileError: it cannot be read, does not parse, or has an id twice.
    """
    try:
        keys = _Document.model_validate_json(path.read_bytes()).keys
    except OSError as error:
        raise KeyFileError(
            f"{path}: {error.strerror or error}; make it with: "
            f"python -m service.keys add --scope predict --file {path}"
        ) from error
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, found["loc"])) or "the file"
        raise KeyFileError(f"{path}: {place}: {found['msg']}") from None
    ids = [key.id for key in keys]
    if twice := sorted({key_id for key_id in ids if ids.count(key_id) > 1}):
        raise KeyFileError(f"{path}: more than one key has the id {twice[0]}")
    return keys


def write_keys(path: Path, keys: Iterable[KeyEntry]) -> None:
    """Replace a file whole: a reader sees the old one or the new one. Readable by its owner."""
    document = {
        "keys": [key.model_dump(mode="json") | {"scopes": sorted(key.scopes)} for key in keys]
    }
    handle, staged = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".new")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(document, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if path.exists():  # whom its owner let read it may read it still
            os.chmod(staged, path.stat().st_mode & 0o777)
        os.replace(staged, path)
    except BaseException:
        Path(staged).unlink(missing_ok=True)
        raise


class KeyRing:
    """Recognises keys; looks for a changed file at most once a second. Event loop only.

    A changed file that cannot be used is reported and the keys in force stay: a slip of an editor
    must neither lock everybody out nor let anybody in.

    Raises:
        KeyFileError: the file cannot be used at the start.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._stamp = _stamp(path)
        self._keys = {key.id: key for key in read_keys(path)}
        self._checked = clock.now()
        _, self._nobody = make_key(["predict"])  # compared with where no id fits

    def find(self, presented: str) -> KeyEntry | None:
        """The entry of a key, or None; takes the same time for a wrong id and a wrong secret."""
        self._reload_if_changed()
        prefix, _, rest = presented[:_MAX_KEY_CHARS].partition("_")
        key_id, _, secret = rest.partition("_")
        entry = self._keys.get(key_id)
        compared = entry or self._nobody
        right = hmac.compare_digest(_digest(compared.salt, secret), compared.sha256)
        return entry if right and prefix == _PREFIX else None

    def _reload_if_changed(self) -> None:
        now = self._clock.now()
        if now - self._checked < _CHECK_EVERY_S:
            return
        self._checked = now
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = {key.id: key for key in read_keys(self._path)}
        except KeyFileError as error:
            logger.error("keys not reloaded, those in force stay: %s", error)
            return
        logger.info("keys reloaded", extra={"fields": {"keys": len(self._keys)}})


def _digest(salt: str, secret: str) -> str:
    return hashlib.sha256(bytes.fromhex(salt) + secret.encode()).hexdigest()


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Changes whenever the file does; also where a mounted secret's link moves on."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
