"""``POST /v1/predict``."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from service.core.errors import ClientGoneError, DeadlineError, RowError
from service.core.prediction import ImageFailure, Prediction
from service.core.selection import select_tasks
from service.http.disconnect import unless_disconnected
from service.http.openapi import PREDICT_REQUEST, error_responses
from service.http.predict_input import PredictInput, read_predict_input
from service.http.record import RequestRecord, record_of
from service.http.render import render_prediction
from service.http.schemas import PredictResponse
from service.http.services import Services, services_of
from service.http.timeout import HEADER as TIMEOUT_HEADER
from service.http.timeout import timeout_s

router = APIRouter(prefix="/v1", tags=["predict"])


@router.post(
    "/predict",
    response_model=PredictResponse,
    responses=error_responses(400, 413, 415, 422, 429, 500, 503, 504),
    openapi_extra=PREDICT_REQUEST,
)
async def predict(request: Request) -> Response:
    """Ask any of the model's tasks about one or more images.

    With several images a bad one carries its own error and the others are answered; with one image
    the request fails. Answers keep the order asked.
    """
    services, record = services_of(request), record_of(request.scope)
    model = services.core.holder.current()  # before the body is read
    deadline = record.started + _timeout_s(request, services)
    services.core.predictor.check_room(deadline)
    given = await _read(request, services, deadline)
    tasks = select_tasks(model.tasks, given.selectors)
    record.images, record.tasks, record.bundle = len(given.images), len(tasks), model.digest
    prediction = await unless_disconnected(
        request.receive,
        services.core.predictor.predict(model, given.images, tasks, deadline),
    )
    _note_timing(record, prediction)
    _raise_if_all_failed(prediction)
    begun = services.core.clock.now()
    body = render_prediction(prediction, record.request_id)
    services.metrics.stage("respond", services.core.clock.now() - begun)
    return Response(body, media_type="application/json")


async def _read(request: Request, services: Services, deadline: float) -> PredictInput:
    clock = services.core.clock
    begun = clock.now()
    try:
        async with asyncio.timeout(deadline - begun):
            given = await read_predict_input(
                request, services.core.decoder, services.settings.max_images
            )
    except TimeoutError:
        raise DeadlineError("the deadline passed while the body came in", stage="read") from None
    except ClientDisconnect:
        services.metrics.cancelled("read")
        raise ClientGoneError("the client closed the connection within the body") from None
    services.metrics.stage("read", clock.now() - begun)
    return given


def _timeout_s(request: Request, services: Services) -> float:
    settings = services.settings
    return timeout_s(
        request.headers.get(TIMEOUT_HEADER),
        settings.request_timeout_ms,
        settings.max_request_timeout_ms,
    )


def _note_timing(record: RequestRecord, prediction: Prediction) -> None:
    timing = prediction.timing
    record.decode_ms = round(timing.decode * 1000, 2)
    record.queue_ms = round(timing.queue * 1000, 2)
    record.compute_ms = round(timing.compute * 1000, 2)


def _raise_if_all_failed(prediction: Prediction) -> None:
    """One image that failed fails the request, and so do several that failed by a fault of ours."""
    failures = [image for image in prediction.images if isinstance(image, ImageFailure)]
    if len(failures) < len(prediction.images):
        return
    if len(failures) == 1 or all(isinstance(failure.error, RowError) for failure in failures):
        raise failures[0].error
