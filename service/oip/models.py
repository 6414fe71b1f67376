"""Names and versions in paths to models."""

from __future__ import annotations

from model.errors import UnknownVersionError
from model.version_names import is_version
from service.core.canary import Lot
from service.core.models import Models
from service.core.served import ServedModel


def choose_model(models: Models, name: str, version: str | None, lot: Lot) -> ServedModel:
    """The version that answers a request for this path.

    Raises:
        UnknownModelError, UnknownVersionError: not served here.
        LoadingError, ModelUnavailableError: not yet, or not at all.
    """
    return models.choose(name, version_number(models, name, version), lot)


def find_model(models: Models, name: str, version: str | None) -> ServedModel:
    """The version that a path names; without one, the stable version.

    Raises:
        UnknownModelError, UnknownVersionError: not served here.
        LoadingError, ModelUnavailableError: not yet, or not at all.
    """
    number = version_number(models, name, version)
    versions = models.get(name)
    return versions.stable.holder.current() if number is None else versions.find(number)


def version_number(models: Models, name: str, version: str | None) -> int | None:
    """The number in a path.

    Raises:
        UnknownModelError: not served here.
        UnknownVersionError: it is no number that a version could have.
    """
    served = sorted(models.get(name).serving())
    if version is not None and not is_version(version):
        raise UnknownVersionError(
            f"{version[:40]!r} is no version of model {name!r}: they are numbers from 1; served: "
            + (", ".join(map(str, served)) or "none"),
            model=name,
            version=version[:40],
            served=served,
        )
    return None if version is None else int(version)
