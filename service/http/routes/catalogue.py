"""What can be asked, what answers, and within which limits."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import torch
from fastapi import APIRouter, Request

from model.auto_forward import Measurement
from model.preprocess import ACCEPTED_FORMATS
from service.core.refresh import Refresher
from service.core.served import ServedModel
from service.core.shadow import ShadowTotals
from service.core.versions import ModelVersions, Role
from service.http.model_choice import ModelName, VersionNumber
from service.http.openapi import error_responses
from service.http.predict_input import ACCEPTED_TYPES
from service.http.schemas import (
    Cost,
    EngineCard,
    LimitsResponse,
    MeasurementCard,
    ModelCard,
    ModelReference,
    ModelResponse,
    ModelsResponse,
    PlaceCard,
    PlanCost,
    RefreshCard,
    ShadowCard,
    TaskCard,
    TasksResponse,
    VersionCard,
)
from service.http.services import Services, services_of

router = APIRouter(prefix="/v1", tags=["catalogue"])


@router.get("/tasks", responses=error_responses(404, 422, 503))
async def tasks(
    request: Request, model: ModelName = None, version: VersionNumber = None
) -> TasksResponse:
    """Every task with its group, description, classes and threshold."""
    versions = services_of(request).core.models.get(model)
    served = versions.stable.holder.current() if version is None else versions.find(version)
    cards = [
        TaskCard(
            name=task.name,
            group=task.group,
            description=task.description,
            classes=list(task.classes),
            threshold=task.threshold if task.is_binary else None,
            calibrated=task.calibrated,
        )
        for task in served.tasks
    ]
    groups = {
        group: [served.tasks[index].name for index in members]
        for group, members in served.tasks.groups.items()
    }
    return TasksResponse(
        model=reference_to(served),
        tasks=cards,
        groups=groups,
    )


@router.get("/model", responses=error_responses(404, 422, 500))
async def model(request: Request, model: ModelName = None) -> ModelResponse:
    """The version that answers, and how it is run; before it is ready, why not: also then 200."""
    services = services_of(request)
    stable = services.core.models.get(model).stable
    holder = stable.holder
    state = ModelResponse(
        name=holder.name,
        state=holder.state,
        reason=holder.refusal.message if holder.refusal else None,
        refresh=_refresh(stable),
        engine=_engine(services, holder.model),
    )
    return state if holder.model is None else state.model_copy(update=_served(holder.model))


@router.get("/models", responses=error_responses(500))
async def models(request: Request) -> ModelsResponse:
    """Every model, every version of it in memory, and how each is run."""
    services = services_of(request)
    return ModelsResponse(
        default=services.core.models.default.name,
        max_versions=services.settings.max_versions,
        models=[_model_card(services, versions) for versions in services.core.models],
    )


@router.get("/limits", responses=error_responses(500))
async def limits(request: Request) -> LimitsResponse:
    """The limits in force for one request."""
    settings = services_of(request).settings
    return LimitsResponse(
        media_types=list(ACCEPTED_TYPES),
        image_formats=list(ACCEPTED_FORMATS),
        max_body_bytes=settings.max_body_bytes,
        max_images=settings.max_images,
        max_image_bytes=settings.max_image_bytes,
        max_image_pixels=settings.max_image_pixels,
        max_rows=settings.max_queue_rows,
        request_timeout_ms=settings.request_timeout_ms,
        max_request_timeout_ms=settings.max_request_timeout_ms,
    )


def reference_to(model: ServedModel) -> ModelReference:
    """Which model it is."""
    return ModelReference(name=model.name, version=model.version, digest=model.digest)


def measurement_card(measured: Measurement | None) -> MeasurementCard | None:
    """What a strategy was chosen by."""
    if measured is None:
        return None
    return MeasurementCard(
        at=_time(measured.at),
        rows=measured.rows,
        images=measured.images,
        seconds={name: round(seconds, 6) for name, seconds in measured.seconds.items()},
    )


def _served(model: ServedModel) -> dict[str, Any]:
    config = model.config
    return {
        "version": model.version,
        "digest": model.digest,
        "loaded_at": _time(model.loaded_at),
        "load_seconds": round(model.load_seconds, 3),
        "strategy": model.strategy,
        "measured": measurement_card(model.measured),
        "kernels": model.kernels,
        "precision": model.precision,
        "precision_error": model.precision_error,
        "device": model.device,
        "tasks": len(model.tasks),
        "family": config.family,
        "backbone": config.backbone,
        "routing": config.routing,
        "head": config.head,
        "preprocess": config.preprocess,
        "preprocess_id": config.preprocess.id,
        "parameters": dict(model.parameters),
        "metrics": dict(model.metrics),
    }


def _model_card(services: Services, versions: ModelVersions) -> ModelCard:
    roles: dict[ServedModel, list[Role]] = {}
    for role, found in versions.in_memory():
        roles.setdefault(found, []).append(role)
    return ModelCard(
        name=versions.name,
        state=versions.stable.holder.state,
        canary_share=versions.canary_share if versions.canary else 0.0,
        places=[_place_card(role, place) for role, place in versions.places()],
        versions=[_version_card(services, found, roles[found]) for found in roles],
        shadow=_shadow_card(services.core.shadows.totals(versions.name)),
    )


def _shadow_card(totals: ShadowTotals | None) -> ShadowCard | None:
    if totals is None:
        return None
    compared = totals.compared
    return ShadowCard(
        version=totals.version,
        compared_rows=compared,
        label_flips=totals.flips.total(),
        most_flipped=dict(totals.flips.most_common(10)),
        mean_difference=totals.sum_difference / compared if compared else None,
        max_difference=totals.max_difference,
        failed_rows=totals.failed,
        incomparable_rows=totals.incomparable,
        dropped_rows=totals.dropped,
    )


def _place_card(role: Role, place: Refresher) -> PlaceCard:
    holder = place.holder
    return PlaceCard(
        role=role,
        wanted=place.version or "latest",
        state=holder.state,
        version=None if holder.model is None else holder.model.version,
        reason=holder.refusal.message if holder.refusal else None,
        unreadable=place.unreadable,
    )


def _version_card(services: Services, found: ServedModel, roles: list[Role]) -> VersionCard:
    return VersionCard(
        version=found.version,
        digest=found.digest,
        roles=roles,
        loaded_at=_time(found.loaded_at),
        load_seconds=round(found.load_seconds, 3),
        strategy=found.strategy,
        measured=measurement_card(found.measured),
        kernels=found.kernels,
        precision=found.precision,
        precision_error=found.precision_error,
        device=found.device,
        threads=torch.get_num_threads(),
        tasks=len(found.tasks),
        cost=_cost(services, found),
    )


def _cost(services: Services, model: ServedModel) -> Cost:
    costs = services.core.scheduler.costs(model)
    return {plan: PlanCost(fixed_s=fixed, per_row_s=row) for plan, (fixed, row) in costs.items()}


def _refresh(stable: Refresher) -> RefreshCard:
    previous = stable.holder.previous
    return RefreshCard(
        follows=stable.follows,
        interval_ms=stable.options.interval_s * 1000,
        read_at=None if stable.read_at is None else _time(stable.read_at),
        unreadable=stable.unreadable,
        previous=None if previous is None else reference_to(previous),
    )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _engine(services: Services, model: ServedModel | None) -> EngineCard:
    scheduler = services.core.scheduler
    return EngineCard(
        threads=torch.get_num_threads(),
        decode_threads=services.core.decoder.threads,
        cpus=services.cpu.cpus,
        cpus_from=services.cpu.source,
        batch_limit_rows=scheduler.row_limit.rows,
        rows_per_second=scheduler.rows_per_second,
        cost={} if model is None else _cost(services, model),
        queue_rows=scheduler.queue_rows,
    )
