"""Probes: live tells whether to restart the process, ready whether to send it requests."""

from __future__ import annotations

from fastapi import APIRouter, Request

from service.http.openapi import error_responses
from service.http.schemas import Live, Ready
from service.http.services import services_of

router = APIRouter(prefix="/v2/health", tags=["health"])


@router.get("/live", responses=error_responses(503))
async def live(request: Request) -> Live:
    """The event loop answers, and the engine thread shows signs of life. Needs no model."""
    if error := services_of(request).core.not_live():
        raise error
    return Live()


@router.get("/ready", responses=error_responses(503))
async def ready(request: Request) -> Ready:
    """A model is loaded and warm, the engine lives, and the process is not shutting down."""
    services_of(request).core.check_ready()
    return Ready()
