"""Open Inference Protocol v2, Triton's extension for the model repository."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import ValidationError

from model.repository import Repository
from service.core.errors import LoadFailedError, NotSupportedError
from service.http.oip.documentation import INDEX_REQUEST
from service.http.oip.errors import OipRoute
from service.http.oip.models import check_name
from service.http.oip.repository import published_entries, served_entries
from service.http.oip.schemas import IndexRequest, RepositoryEntry
from service.http.openapi import error_responses
from service.http.predict_input import refused_json
from service.http.routes.admin import only_administrators
from service.http.services import services_of

router = APIRouter(prefix="/v2/repository", tags=["open inference protocol"], route_class=OipRoute)
_ADMIN = [Depends(only_administrators)]


@router.post("/index", responses=error_responses(400, 503), openapi_extra=INDEX_REQUEST)
async def index(request: Request) -> list[RepositoryEntry]:
    """Every published version in the repository, or the ready ones; which answers, and why not."""
    services = services_of(request)
    body = await request.body()
    try:
        asked = IndexRequest.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise refused_json(error) from None
    holder = services.core.holder
    if asked.ready:
        return served_entries(holder)
    repository = Repository(services.settings.repository, services.settings.remote_options())
    return await asyncio.to_thread(published_entries, repository, holder)


@router.post(
    "/models/{name}/load", responses=error_responses(400, 403, 404, 422, 500), dependencies=_ADMIN
)
async def load(request: Request, name: str) -> dict[str, Any]:
    """Look into the repository and take what LATEST names (or the pinned version), if it is not
    what answers; like `POST /v1/admin/refresh`.

    Answers when the version is served; requests go on meanwhile. Parameters are ignored.
    """
    core = services_of(request).core
    check_name(core.holder, name)
    outcome = await core.refresher.look(again=True)
    if outcome in ("refused", "unreadable"):
        refusal = core.holder.refusal
        reason = core.refresher.unreadable if outcome == "unreadable" else None
        model = core.holder.model
        now = f"version {model.version} goes on answering" if model else "no version is served"
        raise LoadFailedError(
            f"{reason or (refusal.message if refusal else outcome)}; {now}", outcome=outcome
        )
    return {}


@router.post(
    "/models/{name}/unload", responses=error_responses(403, 404, 422, 501), dependencies=_ADMIN
)
async def unload(request: Request, name: str) -> dict[str, Any]:
    """Not offered (501): the process serves this model alone, and without it is never ready."""
    check_name(services_of(request).core.holder, name)
    raise NotSupportedError(
        f"model {name!r} is the only one that this process serves, so it is not unloaded: stop the "
        "process instead; another version takes its place with load or POST /v1/admin/rollback"
    )
