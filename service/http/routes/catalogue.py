"""What can be asked, what answers, and within which limits."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import torch
from fastapi import APIRouter, Request

from model.preprocess import ACCEPTED_FORMATS
from service.core.served import ServedModel
from service.http.openapi import error_responses
from service.http.predict_input import ACCEPTED_TYPES
from service.http.schemas import (
    EngineCard,
    LimitsResponse,
    ModelReference,
    ModelResponse,
    RefreshCard,
    TaskCard,
    TasksResponse,
)
from service.http.services import Services, services_of

router = APIRouter(prefix="/v1", tags=["catalogue"])


@router.get("/tasks", responses=error_responses(503))
async def tasks(request: Request) -> TasksResponse:
    """Every task with its group, description, classes and threshold."""
    model = services_of(request).core.holder.current()
    cards = [
        TaskCard(
            name=task.name,
            group=task.group,
            description=task.description,
            classes=list(task.classes),
            threshold=task.threshold if task.is_binary else None,
            calibrated=task.calibrated,
        )
        for task in model.tasks
    ]
    groups = {
        group: [model.tasks[index].name for index in members]
        for group, members in model.tasks.groups.items()
    }
    return TasksResponse(
        model=reference_to(model),
        tasks=cards,
        groups=groups,
    )


@router.get("/model", responses=error_responses(500))
async def model(request: Request) -> ModelResponse:
    """What is served and how; before a model is ready, why not. Always 200."""
    services = services_of(request)
    holder = services.core.holder
    state = ModelResponse(
        name=holder.name,
        state=holder.state,
        reason=holder.refusal.message if holder.refusal else None,
        refresh=_refresh(services),
        engine=_engine(services),
    )
    return state if holder.model is None else state.model_copy(update=_served(holder.model))


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


def _served(model: ServedModel) -> dict[str, Any]:
    config = model.config
    return {
        "version": model.version,
        "digest": model.digest,
        "loaded_at": _time(model.loaded_at),
        "load_seconds": round(model.load_seconds, 3),
        "strategy": model.strategy,
        "precision": model.precision,
        "precision_error": model.precision_error,
        "device": model.device,
        "tasks": len(model.tasks),
        "backbone": config.backbone,
        "routing": config.routing,
        "head": config.head,
        "preprocess": config.preprocess,
        "preprocess_id": config.preprocess.id,
        "parameters": dict(model.parameters),
        "metrics": dict(model.metrics),
    }


def _refresh(services: Services) -> RefreshCard:
    refresher, previous = services.core.refresher, services.core.holder.previous
    return RefreshCard(
        follows=refresher.follows,
        interval_ms=refresher.options.interval_s * 1000,
        read_at=None if refresher.read_at is None else _time(refresher.read_at),
        unreadable=refresher.unreadable,
        previous=None if previous is None else reference_to(previous),
    )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _engine(services: Services) -> EngineCard:
    scheduler = services.core.scheduler
    return EngineCard(
        threads=torch.get_num_threads(),
        decode_threads=services.core.decoder.threads,
        cpus=services.cpu.cpus,
        cpus_from=services.cpu.source,
        batch_limit_rows=scheduler.row_limit.rows,
        rows_per_second=scheduler.rows_per_second,
        cost={
            plan: {"fixed_s": fixed, "per_row_s": per_row}
            for plan, (fixed, per_row) in scheduler.costs().items()
        },
        queue_rows=scheduler.queue_rows,
    )
