"""The repository's index: every published version, and which one answers."""

from __future__ import annotations

from model.repository import Repository
from service.core.holder import ModelHolder
from service.http.oip.schemas import RepositoryEntry


def served_entries(holder: ModelHolder) -> list[RepositoryEntry]:
    """Versions that are ready: known without a look at the disk."""
    if holder.model is None:
        return []
    version = str(holder.model.version)
    return [RepositoryEntry(name=holder.name, version=version, state="READY", reason="")]


def published_entries(repository: Repository, holder: ModelHolder) -> list[RepositoryEntry]:
    """Every published version of every model. Reads directories.

    Raises:
        model.errors.RepositoryError: the repository cannot be read.
    """
    return [
        _entry(holder, name, version)
        for name in repository.names()
        for version in repository.versions(name)
    ]


def _entry(holder: ModelHolder, name: str, version: int) -> RepositoryEntry:
    model = holder.model if name == holder.name else None
    if model is not None and version == model.version:
        return RepositoryEntry(name=name, version=str(version), state="READY", reason="")
    return RepositoryEntry(
        name=name, version=str(version), state="UNAVAILABLE", reason=_why_not(holder, name)
    )


def _why_not(holder: ModelHolder, name: str) -> str:
    if name != holder.name:
        return f"this process serves model {holder.name!r} only"
    if holder.model is not None:
        return f"version {holder.model.version} answers"
    return holder.refusal.message if holder.refusal else "being loaded"
