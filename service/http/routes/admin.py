"""``POST /v1/admin/*``: what an operator does to the models that answer."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from service.administration import check_administration
from service.core.refresh import Outcome, Refresher
from service.http.model_choice import ModelName, Version, VersionNumber
from service.http.openapi import error_responses
from service.http.routes.catalogue import measurement_card, reference_to
from service.http.schemas import MeasureResponse, RefreshResponse
from service.http.services import services_of


def only_administrators(request: Request) -> None:
    """A route's dependency: see :func:`check_administration`."""
    check_administration(services_of(request).settings)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class PinRequest(_Body):
    """Which version is to answer."""

    version: Version | None = Field(description="null: whatever LATEST names")


class CanaryRequest(_Body):
    """Which version is to answer a share of the requests."""

    version: Version | Literal["latest"] | None = Field(description="null: none any more")
    share: float = Field(
        default=0.0, ge=0.0, le=1.0, description="of the requests that name no version"
    )


class ShadowRequest(_Body):
    """Which version is to be compared with the one that answers."""

    version: Version | Literal["latest"] | None = Field(description="null: none any more")


router = APIRouter(prefix="/v1/admin", tags=["admin"], dependencies=[Depends(only_administrators)])


@router.post("/refresh", responses=error_responses(403, 404, 422, 500))
async def refresh(request: Request, model: ModelName = None) -> RefreshResponse:
    """Look into the repository now, and take what LATEST names, refused before or not.

    Answers when the version is served or refused; requests go on meanwhile.
    """
    stable = services_of(request).core.models.get(model).stable
    outcome = await stable.look(again=True)
    refusal = stable.holder.refusal
    reason = refusal.message if outcome == "refused" and refusal else None
    return _state(stable, outcome, stable.unreadable if outcome == "unreadable" else reason)


@router.post("/rollback", responses=error_responses(403, 404, 409, 422, 500))
async def rollback(request: Request, model: ModelName = None) -> RefreshResponse:
    """Let the version before answer again, at once; once more returns to the present one.

    The version that was left is not taken again until LATEST has named another one, or until
    `POST /v1/admin/refresh`.
    """
    stable = services_of(request).core.models.get(model).stable
    stable.roll_back()
    return _state(stable, "swapped")


@router.post("/pin", responses=error_responses(403, 404, 422, 500))
async def pin(request: Request, asked: PinRequest, model: ModelName = None) -> RefreshResponse:
    """Let one version answer from now on, and follow LATEST no longer; or follow it again.

    Answers when the version is served, at once if it is in memory. A version that cannot be served
    is an error, and changes nothing.
    """
    stable = services_of(request).core.models.get(model).stable
    return _state(stable, await stable.pin(asked.version))


@router.post("/canary", responses=error_responses(403, 404, 409, 422, 500))
async def canary(
    request: Request, asked: CanaryRequest, model: ModelName = None
) -> RefreshResponse:
    """Let a version answer a share of the requests that name none, or end that.

    Answers when it is served. A version that cannot be served is an error, and changes nothing.
    """
    models = services_of(request).core.models
    outcome = await models.set_canary(model, asked.version, asked.share)
    return _state(models.get(model).canary, outcome)


@router.post("/shadow", responses=error_responses(403, 404, 409, 422, 500))
async def shadow(
    request: Request, asked: ShadowRequest, model: ModelName = None
) -> RefreshResponse:
    """Compare a version with those that answer, while the engine is idle, or end that.

    Answers when it is loaded. A version that cannot be served is an error, and changes nothing.
    """
    models = services_of(request).core.models
    outcome = await models.set_shadow(model, asked.version)
    return _state(models.get(model).shadow, outcome)


@router.post("/measure", responses=error_responses(403, 404, 409, 422, 500, 503))
async def measure(
    request: Request, model: ModelName = None, version: VersionNumber = None
) -> MeasureResponse:
    """Time the strategies again where `auto` chooses, and run batches by the fastest from now on.

    For a machine that has become another one since the version was loaded. Answers when that is
    done; requests go on meanwhile.
    """
    measured, before = await services_of(request).core.models.measure(model, version)
    return MeasureResponse(
        model=reference_to(measured),
        before=before,
        strategy=measured.strategy,
        measured=measurement_card(measured.measured),
    )


def _state(place: Refresher | None, outcome: Outcome, reason: str | None = None) -> RefreshResponse:
    model = None if place is None else place.holder.model
    return RefreshResponse(
        outcome=outcome,
        reason=reason,
        model=None if model is None else reference_to(model),
    )
