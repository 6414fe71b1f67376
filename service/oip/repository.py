"""The repository's index: every published version, and which ones answer."""

from __future__ import annotations

from model.repository import Repository
from service.core.models import Models
from service.core.versions import ModelVersions
from service.oip.schemas import RepositoryEntry


def served_entries(models: Models) -> list[RepositoryEntry]:
    """Versions that are ready: known without a look at the disk."""
    return [
        RepositoryEntry(name=versions.name, version=str(version), state="READY", reason="")
        for versions in sorted(models, key=lambda versions: versions.name)
        for version in sorted(versions.serving())
    ]


def published_entries(repository: Repository, models: Models) -> list[RepositoryEntry]:
    """Every published version of every model. Reads directories.

    Raises:
        model.errors.RepositoryError: the repository cannot be read.
    """
    known = {versions.name: versions for versions in list(models)}
    return [
        _entry(known.get(name), name, version)
        for name in repository.names()
        for version in repository.versions(name)
    ]


def _entry(versions: ModelVersions | None, name: str, version: int) -> RepositoryEntry:
    if versions is not None and version in versions.serving():
        return RepositoryEntry(name=name, version=str(version), state="READY", reason="")
    return RepositoryEntry(
        name=name, version=str(version), state="UNAVAILABLE", reason=_why_not(versions, version)
    )


def _why_not(versions: ModelVersions | None, version: int) -> str:
    if versions is None:
        return "this process does not serve the model; it can be loaded"
    for _, place in versions.places():
        if place.version == version and place.holder.refusal is not None:
            return place.holder.refusal.message
    holder = versions.stable.holder
    if holder.model is not None:
        return f"version {holder.model.version} answers"
    if holder.unloaded:
        return "unloaded"
    return holder.refusal.message if holder.refusal else "being loaded"
