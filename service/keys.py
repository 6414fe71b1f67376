"""``python -m service.keys``: make, list and remove API keys.

Usage:
    python -m service.keys add --scope predict --file keys.json [--name TEXT]
    python -m service.keys list --file keys.json
    python -m service.keys remove ID --file keys.json

A new key is printed once, on standard output; the file keeps only a salted digest. A running
service reads a changed file within about a second.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from service.key_file import KeyFileError, KeyScope, make_key, read_keys, write_keys

_FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 the file cannot be used or has no such key, 2 wrong usage."""
    given = _parser().parse_args(arguments)
    path: Path = given.file
    try:
        if given.command == "add":
            _add(path, given.scope, given.name)
        elif given.command == "list":
            _list(path)
        else:
            _remove(path, given.id)
    except (KeyFileError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return _FAILED
    return 0


def _add(path: Path, scopes: list[KeyScope], name: str) -> None:
    keys = read_keys(path) if path.exists() else []
    key, entry = make_key(scopes, name)
    write_keys(path, [*keys, entry])
    sys.stderr.write(f"key {entry.id} added to {path}; it is shown this once:\n")
    sys.stdout.write(f"{key}\n")


def _list(path: Path) -> None:
    for key in read_keys(path):
        fields = (key.id, ",".join(sorted(key.scopes)), key.created_at, key.name)
        sys.stdout.write("\t".join(fields) + "\n")


def _remove(path: Path, key_id: str) -> None:
    keys = read_keys(path)
    kept = [key for key in keys if key.id != key_id]
    if len(kept) == len(keys):
        raise KeyFileError(f"{path} has no key {key_id!r}; `list` shows those it has")
    write_keys(path, kept)
    sys.stderr.write(f"key {key_id} removed from {path}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service.keys", description="Make, list and remove API keys."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("add", help="make a key and print it, once")
    add.add_argument(
        "--scope",
        action="append",
        required=True,
        choices=get_args(KeyScope),
        help="what it may do; repeat for more",
    )
    add.add_argument("--name", default="", help="whose key it is, for the list")
    remove = commands.add_parser("remove", help="revoke a key")
    remove.add_argument("id", help="as `list` shows it; also the middle part of the key")
    listing = commands.add_parser("list", help="ids, scopes, dates and names; no secrets")
    for command in (add, remove, listing):
        command.add_argument("--file", type=Path, required=True, help="the file of keys")
    return parser


if __name__ == "__main__":
    sys.exit(main())
