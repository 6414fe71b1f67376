"""Where models come from: what is published, and how to read it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from model.repository import Published
from service.core.served import ServedModel


class ModelLoader(Protocol):
    """Reads a model; called on a thread where it may take its time."""

    def __call__(self) -> ServedModel:
        """Raises TaskRouteError for a model that cannot be served."""
        ...


class ModelSource(ABC):
    """A model whose published version may change. Called on threads where it may take its time."""

    @abstractmethod
    def published(self) -> Published:
        """What :meth:`load` would read now; cheap.

        Raises:
            TaskRouteError: nothing is there, or it cannot be read.
        """

    @abstractmethod
    def load(self, published: Published) -> ServedModel:
        """Read that version and check it.

        Raises:
            TaskRouteError: it cannot be served.
        """


class OneModel(ModelSource):
    """A loader whose model never changes."""

    def __init__(self, load: ModelLoader) -> None:
        self._load = load
        self._published = Published(0, "", "")

    def published(self) -> Published:
        return self._published

    def load(self, published: Published) -> ServedModel:
        model = self._load()
        self._published = Published(model.version, model.digest, "")
        return model
