"""Which model answers now."""

from __future__ import annotations

from typing import Literal

from model.errors import TaskRouteError
from service.core.errors import LoadingError, ModelUnavailableError
from service.core.served import ServedModel

_LOADING_RETRY_S = 2
_REFUSED_RETRY_S = 30


class ModelHolder:
    """One reference, swapped whole: whoever took a model keeps it until its request is answered.

    Written on the event loop. A refused bundle never takes the place of a model that works.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.refusal: TaskRouteError | None = None  # why the last load failed, None if it did not
        self._model: ServedModel | None = None

    @property
    def model(self) -> ServedModel | None:
        """The model that answers; None before the first one is ready."""
        return self._model

    @property
    def state(self) -> Literal["ready", "loading", "refused"]:
        """What :meth:`current` would do."""
        if self._model is not None:
            return "ready"
        return "loading" if self.refusal is None else "refused"

    def current(self) -> ServedModel:
        """The model that answers.

        Raises:
            LoadingError: not yet.
            ModelUnavailableError: its bundle was refused.
        """
        if self._model is not None:
            return self._model
        if self.refusal is None:
            raise LoadingError(
                f"model {self.name!r} is being loaded", retry_after_s=_LOADING_RETRY_S
            )
        raise ModelUnavailableError(
            f"model {self.name!r} cannot be served: {self.refusal.message}",
            retry_after_s=_REFUSED_RETRY_S,
            reason=self.refusal.code,
        )

    def serve(self, model: ServedModel) -> None:
        """Let ``model`` answer from now on."""
        self._model = model
        self.refusal = None

    def refuse(self, error: TaskRouteError) -> None:
        """Remember why a bundle was not served."""
        self.refusal = error
