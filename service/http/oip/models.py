"""Names and versions in paths to models."""

from __future__ import annotations

from model.errors import UnknownModelError, UnknownVersionError
from service.core.holder import ModelHolder
from service.core.served import ServedModel


def check_name(holder: ModelHolder, name: str) -> None:
    """Raises UnknownModelError for any name but the served model's, ready or not."""
    if name != holder.name:
        raise UnknownModelError(
            f"there is no model {name[:100]!r} here; served is {holder.name!r}",
            model=name[:100],
            served=[holder.name],
        )


def find_model(holder: ModelHolder, name: str, version: str | None) -> ServedModel:
    """The model that a path names; without a version the one that answers now.

    Raises:
        UnknownModelError, UnknownVersionError: not served here.
        LoadingError, ModelUnavailableError: not yet, or not at all.
    """
    check_name(holder, name)
    model = holder.current()
    if version is not None and version != str(model.version):
        raise UnknownVersionError(
            f"version {version[:40]!r} of model {name!r} is not served; version {model.version} is",
            model=name,
            version=version[:40],
            served=[model.version],
        )
    return model
