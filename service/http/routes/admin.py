"""``POST /v1/admin/*``: what an operator does to the model that answers."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request

from service.core.errors import AdminOffError
from service.http.openapi import error_responses
from service.http.routes.catalogue import reference_to
from service.http.schemas import RefreshResponse
from service.http.services import services_of


def only_administrators(request: Request) -> None:
    """Keys with the scope ``admin`` are checked before any route; without keys a setting decides.

    Raises:
        AdminOffError: there are no keys, and the setting is off.
    """
    settings = services_of(request).settings
    if settings.api_keys_file is None and not settings.open_admin:
        raise AdminOffError(
            "administration is off, because nobody can be told from anybody: give API keys "
            "(api_keys_file), or let everybody in (open_admin)"
        )


router = APIRouter(prefix="/v1/admin", tags=["admin"], dependencies=[Depends(only_administrators)])


@router.post("/refresh", responses=error_responses(403, 500))
async def refresh(request: Request) -> RefreshResponse:
    """Look into the repository now, and take what LATEST names, refused before or not.

    Answers when the version is served or refused; requests go on meanwhile.
    """
    core = services_of(request).core
    outcome = await core.refresher.look(again=True)
    model, refusal = core.holder.model, core.holder.refusal
    reason = refusal.message if outcome == "refused" and refusal else None
    return RefreshResponse(
        outcome=outcome,
        reason=core.refresher.unreadable if outcome == "unreadable" else reason,
        model=None if model is None else reference_to(model),
    )


@router.post("/rollback", responses=error_responses(403, 409, 500))
async def rollback(request: Request) -> RefreshResponse:
    """Let the version before answer again, at once; once more returns to the present one.

    The version that was left is not taken again until LATEST has named another one, or until
    `POST /v1/admin/refresh`.
    """
    model = services_of(request).core.refresher.roll_back()
    return RefreshResponse(outcome="swapped", model=reference_to(model))
