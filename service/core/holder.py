"""Which model answers now."""

from __future__ import annotations

from typing import Literal

from model.errors import TaskRouteError
from service.core.errors import LoadingError, ModelUnavailableError, NoPreviousModelError
from service.core.served import ServedModel

State = Literal["ready", "loading", "refused", "unloaded"]

_LOADING_RETRY_S = 2
_REFUSED_RETRY_S = 30


class ModelHolder:
    """One reference, swapped whole: whoever took a model keeps it until its request is answered.

    Written on the event loop. A refused bundle never takes the place of a model that works.
    """

    def __init__(self, name: str, *, keep_previous: bool = True) -> None:
        self.name = name
        self.refusal: TaskRouteError | None = None  # why the last load failed, None if it did not
        self.unloaded = False  # by an administrator
        self._keep_previous = keep_previous
        self._model: ServedModel | None = None
        self._previous: ServedModel | None = None

    @property
    def model(self) -> ServedModel | None:
        """The model that answers; None before the first one is ready."""
        return self._model

    @property
    def previous(self) -> ServedModel | None:
        """The model that answered before, loaded and warm; None if there is or was none."""
        return self._previous

    def loaded(self) -> list[ServedModel]:
        """What it keeps in memory."""
        return [model for model in (self._model, self._previous) if model is not None]

    @property
    def state(self) -> State:
        """What :meth:`current` would do."""
        if self._model is not None:
            return "ready"
        if self.unloaded:
            return "unloaded"
        return "loading" if self.refusal is None else "refused"

    def current(self) -> ServedModel:
        """The model that answers.

        Raises:
            LoadingError: not yet.
            ModelUnavailableError: its bundle was refused, or it was unloaded.
        """
        if self._model is not None:
            return self._model
        if self.unloaded:
            raise ModelUnavailableError(
                f"model {self.name!r} was unloaded by an administrator; "
                f"POST /v2/repository/models/{self.name}/load serves it again",
                retry_after_s=_REFUSED_RETRY_S,
                reason="unloaded",
            )
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
        """Let ``model`` answer from now on; the one before is kept, the one before that is not."""
        if self._keep_previous and model is not self._model:
            self._previous = self._model
        self._model = model
        self.refusal, self.unloaded = None, False

    def unload(self) -> None:
        """Let nothing answer any more; requests that were let in are answered."""
        self._model = self._previous = self.refusal = None
        self.unloaded = True

    def roll_back(self) -> tuple[ServedModel, ServedModel]:
        """Let the previous model answer again, and keep the present one in its place.

        Returns:
            The model that answers now, and the one that did.

        Raises:
            NoPreviousModelError: none is kept.
        """
        now, back = self._model, self._previous
        if now is None or back is None:
            raise NoPreviousModelError(
                f"no earlier version of model {self.name!r} is kept in memory: "
                + (
                    "none was replaced since the start; publish the one you want, or write its "
                    "number into LATEST"
                    if self._keep_previous
                    else "keep_previous is off"
                )
            )
        self.serve(back)
        return back, now

    def refuse(self, error: TaskRouteError) -> None:
        """Remember why a bundle was not served."""
        self.refusal = error
