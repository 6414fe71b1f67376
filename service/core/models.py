"""All models of this process: found by name, changed by administrators."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

from model.errors import UnknownModelError
from service.core.canary import Lot
from service.core.clock import Clock
from service.core.errors import TooManyVersionsError
from service.core.holder import ModelHolder
from service.core.measuring import measure_again
from service.core.plan import ModelPlan, Wanted
from service.core.refresh import Outcome, Refresher, RefreshOptions
from service.core.scheduler import Scheduler
from service.core.served import ServedModel
from service.core.source import ModelSources
from service.core.telemetry import Telemetry
from service.core.versions import ModelVersions


class Models:
    """The models that are served, by name; the first planned one where a request names none.

    Event loop only. Administrators' changes are made one after the other; requests go on meanwhile.
    """

    def __init__(
        self,
        plans: Sequence[ModelPlan],
        sources: ModelSources,
        scheduler: Scheduler,
        telemetry: Telemetry,
        clock: Clock,
        options: RefreshOptions,
        *,
        keep_previous: bool,
        max_versions: int,
    ) -> None:
        self._sources = sources
        self._scheduler = scheduler
        self._telemetry = telemetry
        self._clock = clock
        self._options = options
        self._keep_previous = keep_previous
        self._max_versions = max_versions
        self._turn = asyncio.Lock()
        self._changing = asyncio.Lock()
        self._models = {plan.name: self._versions(plan) for plan in plans}
        self.default = self._models[plans[0].name]

    def __iter__(self) -> Iterator[ModelVersions]:
        return iter(self._models.values())

    def get(self, name: str | None) -> ModelVersions:
        """The versions of a model, ready or not; None: of the default model.

        Raises:
            UnknownModelError: not served here.
        """
        if name is None:
            return self.default
        if name not in self._models:
            served = list(self._models)
            raise UnknownModelError(
                f"there is no model {name[:100]!r} here; served: {', '.join(map(repr, served))}",
                model=name[:100],
                served=served,
            )
        return self._models[name]

    def choose(self, name: str | None, version: int | None, lot: Lot) -> ServedModel:
        """The version that answers a request.

        Raises:
            UnknownModelError, UnknownVersionError: not served here.
            LoadingError, ModelUnavailableError: not yet, or not at all.
        """
        versions = self.get(name)
        return versions.choose(lot) if version is None else versions.find(version)

    def shadow(self, name: str) -> ServedModel | None:
        """The version that a model's answers are compared with."""
        versions = self._models.get(name)
        place = None if versions is None else versions.shadow
        return None if place is None else place.holder.model

    def check_ready(self) -> None:
        """Raise what a request for a model would get, while one is loaded for the first time, or if
        there is none at all."""
        holders = [versions.stable.holder for versions in self]
        loading = [holder for holder in holders if holder.state == "loading"]
        if loading or not any(holder.state == "ready" for holder in holders):
            (loading or holders)[0].current()

    def read_at(self) -> float | None:
        """When the last look succeeded, of what is followed the longest ago; seconds since the
        epoch, None if one never did."""
        places = [place for versions in self for _, place in versions.places()]
        followed = [place for place in places if place.follows] or places
        return min(place.read_at or 0.0 for place in followed) or None

    def start(self) -> None:
        """Begin to load and to follow; returns at once."""
        for versions in self:
            versions.start()

    async def stop(self) -> None:
        for versions in self:
            await versions.stop()

    async def set_canary(self, name: str | None, wanted: Wanted | None, share: float) -> Outcome:
        """See :meth:`ModelVersions.set_canary`.

        Raises:
            TooManyVersionsError: no place for one more version.
        """
        async with self._changing:
            versions = self.get(name)
            self._check_room(versions.canary is None and wanted is not None)
            return await versions.set_canary(wanted, share)

    async def set_shadow(self, name: str | None, wanted: Wanted | None) -> Outcome:
        """See :meth:`ModelVersions.set_shadow`.

        Raises:
            TooManyVersionsError: no place for one more version.
        """
        async with self._changing:
            versions = self.get(name)
            self._check_room(versions.shadow is None and wanted is not None)
            return await versions.set_shadow(wanted)

    async def measure(self, name: str | None, version: int | None) -> tuple[ServedModel, str]:
        """See :func:`measure_again`; of the version that answers, or of one by its number.

        Returns:
            that version, and its strategy until now.

        Raises:
            UnknownModelError, UnknownVersionError: not served here.
            LoadingError, ModelUnavailableError: not yet, or not at all.
            StrategyFixedError: a setting says which strategy runs.
        """
        async with self._changing:
            versions = self.get(name)
            holder = versions.stable.holder
            model = holder.current() if version is None else versions.find(version)
            return model, await measure_again(model, self._scheduler)

    async def load(self, name: str, version: int | None) -> Outcome:
        """Take a model's latest (or pinned) version; or one version more, by its number.

        A model that was not served, or was unloaded, is from now on: by that version, or by
        whatever LATEST names.

        Raises:
            UnknownModelError, UnknownVersionError, LoadFailedError: nothing has changed.
            TooManyVersionsError: no place for one more version.
        """
        async with self._changing:
            versions = self._models.get(name)
            if versions is None:
                self._check_room(True)
                versions = self._versions(ModelPlan(name, version or "latest"))
                outcome = await versions.stable.look_or_raise()
                self._models[name] = versions
                versions.start()
                return outcome
            stable = versions.stable
            self._check_room(stable.holder.unloaded)
            if version is None:
                return await stable.look_or_raise()
            if stable.holder.model is None:
                return await stable.pin(version)
            self._check_room(version not in versions.serving())
            return await versions.load(version)

    async def unload(self, name: str, version: int | None) -> None:
        """Take a model, or one version beside the one that answers, out of memory.

        Raises:
            UnknownModelError: not served here.
            VersionInUseError: the version answers requests that name none.
        """
        async with self._changing:
            versions = self.get(name)
            if version is None:
                await versions.unload_all()
            else:
                await versions.unload(version)

    def _versions(self, plan: ModelPlan) -> ModelVersions:
        source = self._sources.of(plan.name)

        def make(
            holder: ModelHolder, version: int | None, loaded: Callable[[], list[ServedModel]]
        ) -> Refresher:
            return Refresher(
                source,
                holder,
                self._scheduler,
                self._telemetry,
                self._clock,
                self._options,
                version=version,
                loaded=loaded,
                answering=self._any_answers,
                turn=self._turn,
            )

        return ModelVersions(plan, make, keep_previous=self._keep_previous)

    def _any_answers(self) -> bool:
        return any(versions.stable.holder.model is not None for versions in self)

    def _check_room(self, needed: bool) -> None:
        places = [place for versions in self for _, place in versions.places()]
        used = sum(not place.holder.unloaded for place in places)
        if needed and used >= self._max_versions:
            raise TooManyVersionsError(
                f"{used} versions are served and no more are allowed (max_versions): unload one "
                "(POST /v2/repository/models/NAME/unload), or end a canary or a shadow",
                served=used,
                max_versions=self._max_versions,
            )
