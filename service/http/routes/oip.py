"""Open Inference Protocol v2: metadata, readiness, inference, statistics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.http.disconnect import unless_disconnected
from service.http.model_choice import lot_of
from service.http.oip.documentation import BINARY_ANSWER, INFER_REQUEST, INFER_VERSION_REQUEST
from service.http.oip.errors import LeanOipRoute, OipRoute
from service.http.oip.infer_input import HEADER_LENGTH, read_infer_input
from service.http.oip.infer_output import render_inference
from service.http.openapi import error_responses
from service.http.record import record_of
from service.http.request_time import read_in_time, request_timeout_s
from service.http.services import Services, services_of
from service.http.timeout import HEADER as TIMEOUT_HEADER
from service.oip.asked import InferInput
from service.oip.infer import infer as answer
from service.oip.metadata import model_metadata, server_metadata
from service.oip.models import choose_model, find_model, version_number
from service.oip.schemas import (
    InferResponse,
    ModelMetadata,
    ModelReady,
    ServerMetadata,
    StatisticsResponse,
)
from service.oip.statistics import all_statistics as collect
from service.priority import HEADER as PRIORITY_HEADER
from service.priority import header_priority

router = APIRouter(prefix="/v2", tags=["open inference protocol"], route_class=OipRoute)
inference_router = APIRouter(
    prefix="/v2", tags=["open inference protocol"], route_class=LeanOipRoute
)

_MODEL = "/models/{name}"
_VERSION = "/models/{name}/versions/{version}"


@router.get("/", include_in_schema=False)
@router.get("", responses=error_responses(500))
async def server(request: Request) -> ServerMetadata:
    """Who answers, and which extensions of the protocol it knows."""
    return server_metadata(request.app.version)


@router.get("/models/stats", responses=error_responses(500))
async def all_statistics(request: Request) -> StatisticsResponse:
    """Totals of every version since the process started, in the shape of Triton's extension."""
    return _statistics(services_of(request))


@router.get(_VERSION, responses=error_responses(404, 422, 503))
@router.get(_MODEL, responses=error_responses(404, 422, 503))
async def metadata(request: Request, name: str, version: str | None = None) -> ModelMetadata:
    """What the model takes and answers: every task is an output."""
    models = services_of(request).core.models
    model = find_model(models, name, version)
    return model_metadata(model, sorted(models.get(name).serving()))


@router.get(_VERSION + "/ready", responses=error_responses(404, 422, 503))
@router.get(_MODEL + "/ready", responses=error_responses(404, 422, 503))
async def ready(request: Request, name: str, version: str | None = None) -> ModelReady:
    """Inference requests for the model will be answered."""
    core = services_of(request).core
    version_number(core.models, name, version)
    core.check_running()
    find_model(core.models, name, version)
    return ModelReady(name=name)


@router.get(_VERSION + "/stats", responses=error_responses(404, 422))
@router.get(_MODEL + "/stats", responses=error_responses(404, 422))
async def statistics(request: Request, name: str, version: str | None = None) -> StatisticsResponse:
    """Totals since the process started, of one version or all that were served.

    An inference is a row (image x task), an execution a batch; `compute_input` is decoding,
    `compute_infer` the batches that a request's rows were in.
    """
    services = services_of(request)
    return _statistics(services, name, version)


@inference_router.post(
    _VERSION + "/infer",
    response_model=InferResponse,
    responses=error_responses(400, 404, 413, 422, 429, 500, 503, 504) | BINARY_ANSWER,
    openapi_extra=INFER_VERSION_REQUEST,
)
@inference_router.post(
    _MODEL + "/infer",
    response_model=InferResponse,
    responses=error_responses(400, 404, 413, 422, 429, 500, 503, 504) | BINARY_ANSWER,
    openapi_extra=INFER_REQUEST,
)
async def infer(request: Request) -> Response:
    """Ask tasks about one or more images, in JSON, with binary tensors, or with a bare file.

    The outputs are tasks; without any, all are answered. One bad image fails the request: the
    protocol has no place for an image's own error (`POST /v1/predict` has).
    """
    services, record = services_of(request), record_of(request.scope)
    path = request.path_params
    name, version = path["name"], path.get("version", request.query_params.get("version"))
    # Before the body is read.
    model = choose_model(services.core.models, name, version, lot_of(request))
    deadline = record.started + request_timeout_s(request, services)
    priority = header_priority(request.headers.get(PRIORITY_HEADER))
    services.core.predictor.check_room(deadline, priority)
    reading = read_infer_input(request, services.core.decoder, services.settings.max_images)
    asked = await read_in_time(reading, services, deadline)
    if asked.timeout_s is not None:
        deadline = record.started + _limited_timeout_s(asked, request, services)
    prediction, forms = await unless_disconnected(
        request.receive,
        answer(services.core.predictor, model, asked, record, deadline, priority),
    )
    begun = services.core.clock.now()
    body, header_bytes = render_inference(prediction, forms, asked.id)
    services.metrics.stage("respond", services.core.clock.now() - begun)
    if header_bytes is None:
        return Response(body, media_type="application/json")
    headers = {HEADER_LENGTH: str(header_bytes)}
    return Response(body, headers=headers, media_type="application/octet-stream")


def _limited_timeout_s(asked: InferInput, request: Request, services: Services) -> float:
    """The parameter's seconds; a header, if there is one as well, and the setting bound it."""
    assert asked.timeout_s is not None  # noqa: S101 - for mypy: the caller looked
    settings = services.settings
    if TIMEOUT_HEADER in request.headers:
        return min(asked.timeout_s, request_timeout_s(request, services))
    return min(asked.timeout_s, settings.max_request_timeout_ms / 1000)


def _statistics(
    services: Services, name: str | None = None, version: str | None = None
) -> StatisticsResponse:
    return collect(services.metrics.statistics, services.core.models, name, version)
