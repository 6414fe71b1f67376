"""All versions of one model in this process, and which of them answers a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, Protocol

from model.errors import UnknownVersionError
from service.core.canary import Lot
from service.core.errors import VersionInUseError
from service.core.holder import ModelHolder
from service.core.plan import ModelPlan, Wanted, number
from service.core.refresh import Outcome, Refresher
from service.core.served import ServedModel

Role = Literal["stable", "canary", "shadow", "beside", "previous"]


class MakeRefresher(Protocol):
    """Makes what fills a holder with a version (None: the latest), not yet started."""

    def __call__(
        self, holder: ModelHolder, version: int | None, loaded: Callable[[], list[ServedModel]]
    ) -> Refresher: ...


class ModelVersions:
    """One model: the stable version, which answers; a canary, which answers a share; a shadow,
    which answers nobody; and versions beside them that answer who asks for them by number.

    Event loop only. What cannot be served changes nothing that is.
    """

    def __init__(self, plan: ModelPlan, make: MakeRefresher, *, keep_previous: bool) -> None:
        self.name = plan.name
        self.canary_share = plan.canary_share
        self._make = make
        holder = ModelHolder(plan.name, keep_previous=keep_previous)
        self.stable = make(holder, number(plan.version), self.loaded)
        self.canary = None if plan.canary is None else self._place(plan.canary)
        self.shadow = None if plan.shadow is None else self._place(plan.shadow)
        self.beside = {version: self._place(version) for version in plan.beside}

    def places(self) -> Iterator[tuple[Role, Refresher]]:
        """Every place for a version, whether or not one is there yet."""
        yield "stable", self.stable
        if self.canary is not None:
            yield "canary", self.canary
        if self.shadow is not None:
            yield "shadow", self.shadow
        for refresher in self.beside.values():
            yield "beside", refresher

    def in_memory(self) -> Iterator[tuple[Role, ServedModel]]:
        """What is loaded for which role; a version may have several."""
        for role, place in self.places():
            if place.holder.model is not None:
                yield role, place.holder.model
        if self.stable.holder.previous is not None:
            yield "previous", self.stable.holder.previous

    def loaded(self) -> list[ServedModel]:
        """What is loaded, each version once."""
        return list(dict.fromkeys(model for _, model in self.in_memory()))

    def serving(self) -> dict[int, ServedModel]:
        """The versions that answer who asks for them, by number."""
        hidden = ("shadow", "previous")
        return {model.version: model for role, model in self.in_memory() if role not in hidden}

    def choose(self, lot: Lot) -> ServedModel:
        """The version that answers a request that names none.

        Raises:
            LoadingError, ModelUnavailableError: the stable version is not there.
        """
        stable = self.stable.holder.current()
        canary = None if self.canary is None else self.canary.holder.model
        if canary is None or not lot.draws_canary(self.name, self.canary_share):
            return stable
        return canary

    def find(self, version: int) -> ServedModel:
        """The version that a request names.

        Raises:
            LoadingError, ModelUnavailableError: it is not there yet, or the model is not.
            UnknownVersionError: it is not served here.
        """
        serving = self.serving()
        if version in serving:
            return serving[version]
        for role, place in self.places():
            if role != "shadow" and place.version == version and place.holder.model is None:
                return place.holder.current()  # says what is in the way
        self.stable.holder.current()
        raise UnknownVersionError(
            f"version {version} of model {self.name!r} is not served; served: "
            + ", ".join(map(str, sorted(serving))),
            model=self.name,
            version=version,
            served=sorted(serving),
        )

    def start(self) -> None:
        """Begin to load what is wanted, and to follow what is to be followed."""
        for _, place in self.places():
            place.start()

    async def stop(self) -> None:
        for _, place in self.places():
            await place.stop()

    async def set_canary(self, wanted: Wanted | None, share: float) -> Outcome:
        """Let a version answer a share of the requests; None: end that.

        Raises:
            UnknownVersionError, LoadFailedError: nothing has changed.
        """
        self.canary, outcome = await self._replace(self.canary, wanted)
        self.canary_share = share if wanted is not None else 0.0
        return outcome

    async def set_shadow(self, wanted: Wanted | None) -> Outcome:
        """Compare a version with those that answer; None: end that.

        Raises:
            UnknownVersionError, LoadFailedError: nothing has changed.
        """
        self.shadow, outcome = await self._replace(self.shadow, wanted)
        return outcome

    async def load(self, version: int) -> Outcome:
        """Let a version answer who asks for it by its number.

        Raises:
            UnknownVersionError, LoadFailedError: nothing has changed.
        """
        if version in self.serving():
            return "unchanged"
        place, outcome = await self._replace(self.beside.get(version), version)
        if place is not None:
            self.beside[version] = place
        return outcome

    async def unload(self, version: int) -> None:
        """Take out what :meth:`load` put in; nothing, if it is not there.

        Raises:
            VersionInUseError: it is there for another purpose.
        """
        place = self.beside.pop(version, None)
        if place is not None:
            await place.stop()
        elif version in self.serving():
            raise VersionInUseError(
                f"version {version} of model {self.name!r} answers requests that name no version: "
                "pin another one or end the canary first, or unload the whole model",
                model=self.name,
                version=version,
            )

    async def unload_all(self) -> None:
        """Take every version out of memory; requests that were let in are answered."""
        others = [place for role, place in self.places() if role != "stable"]
        self.canary = self.shadow = None
        self.beside.clear()
        for place in others:
            await place.stop()
        await self.stable.unload()

    def _place(self, wanted: Wanted) -> Refresher:
        holder = ModelHolder(self.name, keep_previous=False)
        return self._make(holder, number(wanted), self.loaded)

    async def _replace(
        self, old: Refresher | None, wanted: Wanted | None
    ) -> tuple[Refresher | None, Outcome]:
        """A place with what is wanted, loaded and warm, instead of ``old``."""
        if old is not None and wanted is not None and old.version == number(wanted):
            return old, await old.look_or_raise()
        new = None if wanted is None else self._place(wanted)
        outcome = "unchanged" if new is None else await new.look_or_raise()
        if new is not None:
            new.start()
        if old is not None:
            await old.stop()
        return new, outcome
