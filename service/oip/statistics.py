"""Totals of the core in the shape of Triton's statistics extension."""

from __future__ import annotations

from model.errors import UnknownVersionError
from service.core.models import Models
from service.core.statistics import BatchTotals, ModelStatistics, ModelTotals, Total
from service.oip.schemas import (
    BatchStatistics,
    Duration,
    InferenceStatistics,
    ModelStatisticsEntry,
    StatisticsResponse,
)

_NONE = Duration(count=0, ns=0)


def all_statistics(
    found: ModelStatistics, models: Models, name: str | None, version: str | None
) -> StatisticsResponse:
    """Of one version, of all of a model, or of everything that was served.

    Raises:
        UnknownModelError, UnknownVersionError: was not served since the process started.
    """
    if name is not None:
        models.get(name)
    for versions in models:
        for model in versions.serving().values():
            found.of(model)  # listed before its first request
    entries = [
        statistics_of(totals)
        for totals in found.all()
        if name in (None, totals.name) and version in (None, str(totals.version))
    ]
    if version is not None and not entries:
        raise UnknownVersionError(
            f"version {version[:40]!r} of model {name!r} was not served since the process started",
            model=name,
            version=version[:40],
        )
    return StatisticsResponse(model_stats=entries)


def statistics_of(totals: ModelTotals) -> ModelStatisticsEntry:
    """One version's entry. An inference is a row (image x task), an execution a batch."""
    return ModelStatisticsEntry(
        name=totals.name,
        version=str(totals.version),
        last_inference=int(totals.last_request * 1000),
        inference_count=totals.rows,
        execution_count=totals.batches,
        inference_stats=InferenceStatistics(
            success=_duration(totals.success),
            fail=_duration(totals.failure),
            queue=_duration(totals.queue),
            compute_input=_duration(totals.decode),
            compute_infer=_duration(totals.compute),
            compute_output=_NONE,  # too short to be worth a clock
            cache_hit=_duration(totals.cache_hit),
            cache_miss=_duration(totals.cache_miss),
        ),
        batch_stats=[_batch(size, totals.by_size[size]) for size in sorted(totals.by_size)],
    )


def _batch(size: int, totals: BatchTotals) -> BatchStatistics:
    return BatchStatistics(
        batch_size=size,
        compute_input=_duration(totals.assemble),
        compute_infer=_duration(totals.forward),
        compute_output=_NONE,
    )


def _duration(total: Total) -> Duration:
    return Duration(count=total.count, ns=int(total.seconds * 1e9))
