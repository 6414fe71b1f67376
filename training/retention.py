"""Which published versions stay, and which one LATEST names: going back, and pruning.

A version may be served although LATEST has left it: by a service pinned to it, by one that was
rolled back, by a canary, or by one that has not looked yet. Files of a version that a service holds
in memory can go without harm to its requests, but not to its next start. What is served is
therefore asked of the services themselves, and nothing is removed unless all of them answer.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from model.errors import BundleError, RepositoryError, UnknownVersionError
from model.repository import Repository

KEY_VARIABLE = "TASKROUTE_API_KEY"
_TIMEOUT_S = 10.0


def roll_back(repository: Repository, name: str, version: int | None = None) -> tuple[int, int]:
    """Let LATEST name ``version``; by default the one that the latest version replaced.

    Returns:
        The version that was the latest, and the one that is now.

    Raises:
        RepositoryError: there is none to go back to, or LATEST cannot be written.
        BundleError: the version is damaged; LATEST is untouched.
    """
    latest = repository.latest(name)
    target = version if version is not None else _replaced_by(repository, name, latest)
    if target == latest:
        raise RepositoryError(f"version {target} of {name} is the latest already", model=name)
    repository.read(name, target).any_network()  # damaged ones are refused before anybody follows
    repository.set_latest(name, target)
    return latest, target


@dataclass(frozen=True)
class Pruning:
    """Which versions may go."""

    keep: int
    """How many of the highest versions stay, at least 1."""
    min_age_s: float = 0.0
    """Versions published less than so many seconds ago stay."""
    protect: tuple[int, ...] = ()
    services: tuple[str, ...] = ()
    """Addresses of the services whose versions stay."""


def prune(
    repository: Repository, name: str, pruning: Pruning, *, dry_run: bool = False
) -> tuple[list[int], set[int]]:
    """Remove old versions: never the latest one, the one it replaced, or one that is served.

    Returns:
        The versions that were removed, and those that stayed although they are old.

    Raises:
        RepositoryError: a service does not say what it serves, or the repository cannot be
            written.
    """
    stay = {*pruning.protect, *served_versions(pruning.services, name)}
    with contextlib.suppress(UnknownVersionError):  # the first one
        stay.add(_replaced_by(repository, name, repository.latest(name)))
    gone = repository.prune(name, pruning.keep, pruning.min_age_s, stay, dry_run=dry_run)
    return gone, stay & set(repository.versions(name)) - set(gone)


def served_versions(services: Sequence[str], name: str) -> set[int]:
    """The versions of ``name`` that these services hold in memory, whatever for.

    Raises:
        RepositoryError: one of them does not answer, or does not serve that model.
    """
    key = os.environ.get(KEY_VARIABLE)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    found = set()
    with httpx.Client(timeout=_TIMEOUT_S, headers=headers) as client:
        for service in services:
            try:
                page = client.get(f"{service.rstrip('/')}/v1/models").raise_for_status().json()
                cards = {card["name"]: card["versions"] for card in page["models"]}
                found |= {int(card["version"]) for card in cards[name]}
            except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
                raise RepositoryError(
                    f"{service} does not say which versions of {name} it holds ({error!r}): "
                    f"nothing is removed; leave it out with care, or give its key in "
                    f"{KEY_VARIABLE}",
                    service=service,
                ) from error
    return found


def _replaced_by(repository: Repository, name: str, latest: int) -> int:
    """The version that ``latest`` replaced; where it does not say, the highest one below.

    Raises:
        UnknownVersionError: there is none.
    """
    versions = repository.versions(name)
    try:
        parent = repository.read(name, latest).manifest.parent
    except BundleError:  # a reason to go back
        parent = None
    if parent is not None and parent.version in versions and parent.version != latest:
        return parent.version
    below = [version for version in versions if version < latest]
    if not below:
        raise UnknownVersionError(
            f"{name} has no version before {latest}; it has {versions}", model=name, version=latest
        )
    return below[-1]
