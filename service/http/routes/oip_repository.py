"""Open Inference Protocol v2, Triton's extension for the model repository."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ValidationError

from model.repository import Repository
from service.http.oip.documentation import INDEX_REQUEST, LOAD_REQUEST
from service.http.oip.errors import OipRoute
from service.http.openapi import error_responses
from service.http.predict_input import refused_json
from service.http.routes.admin import only_administrators
from service.http.services import services_of
from service.oip.repository import published_entries, served_entries
from service.oip.schemas import IndexRequest, LoadRequest, RepositoryEntry
from service.oip.versions import asked_version

router = APIRouter(prefix="/v2/repository", tags=["open inference protocol"], route_class=OipRoute)
_ADMIN = [Depends(only_administrators)]

Asked = TypeVar("Asked", bound=BaseModel)


@router.post("/index", responses=error_responses(400, 503), openapi_extra=INDEX_REQUEST)
async def index(request: Request) -> list[RepositoryEntry]:
    """Every published version in the repository, or the ready ones; which answers, and why not."""
    services = services_of(request)
    asked = await _read(request, IndexRequest)
    models = services.core.models
    if asked.ready:
        return served_entries(models)
    repository = Repository(services.settings.repository, services.settings.remote_options())
    return await asyncio.to_thread(published_entries, repository, models)


@router.post(
    "/models/{name}/load",
    responses=error_responses(400, 403, 404, 409, 422, 500),
    dependencies=_ADMIN,
    openapi_extra=LOAD_REQUEST,
)
async def load(request: Request, name: str) -> dict[str, Any]:
    """Take what LATEST names (or the pinned version), if it is not what answers: of a model that is
    served, or of another one in the repository, which is served from now on. The parameter
    `version` loads that version beside the one that answers.

    Answers when the version is served; requests go on meanwhile. Other parameters are ignored.
    """
    version = asked_version((await _read(request, LoadRequest)).parameters or {})
    await services_of(request).core.models.load(name, version)
    return {}


@router.post(
    "/models/{name}/unload",
    responses=error_responses(400, 403, 404, 409, 422, 500),
    dependencies=_ADMIN,
    openapi_extra=LOAD_REQUEST,
)
async def unload(request: Request, name: str) -> dict[str, Any]:
    """Take a model out of memory, with all its versions; requests that were let in are answered,
    new ones get 503 until it is loaded again. The parameter `version` takes out one that was loaded
    beside the one that answers.
    """
    version = asked_version((await _read(request, LoadRequest)).parameters or {})
    await services_of(request).core.models.unload(name, version)
    return {}


async def _read(request: Request, kind: type[Asked]) -> Asked:
    body = await request.body()
    try:
        return kind.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise refused_json(error) from None
