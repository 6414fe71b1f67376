"""What there is of every served version: a version's series go when it leaves memory."""

from __future__ import annotations

from service.core.comparison import Comparison
from service.core.served import ServedModel
from service.core.serving import ServingCore
from service.core.versions import ModelVersions
from service.metrics.declared import Declared
from service.metrics.shadow import ShadowMetrics, Version


class VersionMetrics:
    """Series by version. Event loop only."""

    def __init__(self, declared: Declared) -> None:
        self._info = declared.gauge("model_info")
        self._created = declared.gauge("model_created_timestamp_seconds")
        self._requests = declared.counter("model_requests_total")
        self._durations = declared.histogram("model_request_duration_seconds")
        self._cost_fixed = declared.gauge("cost_fixed_seconds")
        self._cost_per_row = declared.gauge("cost_per_row_seconds")
        self._shadow = ShadowMetrics(declared)
        self._counted: set[Version] = set()  # versions with series of their own
        self._loaded: set[Version] = set()  # versions in memory at the last scrape

    def answered(self, model: ServedModel, seconds: float, outcome: str) -> None:
        """A request is over: ok or failed."""
        version = (model.name, str(model.version))
        self._counted.add(version)
        self._requests.labels(*version, outcome).inc()
        self._durations.labels(*version).observe(seconds)

    def compared(self, name: str, found: Comparison) -> None:
        """Rows of model ``name`` were compared with its shadow version, or could not be."""
        version = (name, str(found.version))
        self._counted.add(version)
        self._shadow.compared(version, found)

    def observe(self, core: ServingCore) -> None:
        """Show what is in memory now."""
        for gauge in (self._info, self._created, self._cost_fixed, self._cost_per_row):
            gauge.clear()
        for versions in core.models:
            self._show(versions)
            for model in versions.loaded():
                for plan, (fixed, per_row) in core.scheduler.costs(model).items():
                    self._cost_fixed.labels(*_version(model), plan).set(fixed)
                    self._cost_per_row.labels(*_version(model), plan).set(per_row)
        totals = [(name, core.shadows.totals(name)) for name in (one.name for one in core.models)]
        self._shadow.show(
            {(name, str(found.version)): found for name, found in totals if found is not None}
        )
        self._forget({_version(model) for versions in core.models for model in versions.loaded()})

    def _show(self, versions: ModelVersions) -> None:
        if (stable := versions.stable.holder.model) is not None:
            self._created.labels(stable.name).set(stable.created_at)
        for role, model in versions.in_memory():
            self._info.labels(
                model.name,
                role,
                str(model.version),
                model.digest,
                model.config.backbone.arch,
                str(len(model.tasks)),
                model.precision,
                model.device,
            ).set(1)

    def _forget(self, loaded: set[Version]) -> None:
        # One that has just gone is shown once more, with its last requests.
        for version in self._counted - loaded - self._loaded:
            for outcome in ("ok", "failed"):
                self._requests.remove(*version, outcome)
            self._durations.remove(*version)
            self._shadow.forget(version)
            self._counted.remove(version)
        self._loaded = loaded


def _version(model: ServedModel) -> Version:
    return model.name, str(model.version)
