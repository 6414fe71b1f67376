"""Where models come from: what is published, and how to read it."""

from __future__ import annotations

from abc import ABC, abstractmethod

from model.repository import Published
from service.core.served import ServedModel


class ModelSource(ABC):
    """One model's versions. Called on threads where it may take its time."""

    @abstractmethod
    def published(self, version: int | None = None) -> Published:
        """What :meth:`load` would read now, by default the latest; cheap.

        Raises:
            TaskRouteError: nothing is there, or it cannot be read.
        """

    @abstractmethod
    def load(self, published: Published) -> ServedModel:
        """Read that version and check it.

        Raises:
            TaskRouteError: it cannot be served.
        """


class ModelSources(ABC):
    """Every model that could be served."""

    @abstractmethod
    def of(self, name: str) -> ModelSource:
        """The versions of one model, whether or not there are any: nothing is read.

        Raises:
            UnknownModelError: there can be none of that name.
        """
