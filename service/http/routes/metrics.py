"""``GET /metrics``."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from service.http.services import services_of

router = APIRouter(tags=["metrics"])


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """Prometheus metrics in the text format."""
    services = services_of(request)
    return Response(
        await services.metrics.scrape(services.core), media_type=CONTENT_TYPE_PLAIN_0_0_4
    )
