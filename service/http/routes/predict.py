"""``POST /v1/predict``."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.core.errors import RowError
from service.core.prediction import ImageFailure, Prediction
from service.core.priority import Priority
from service.core.selection import select_tasks
from service.http.disconnect import unless_disconnected
from service.http.lean_route import LeanRoute
from service.http.model_choice import lot_of, query_choice
from service.http.openapi import PREDICT_REQUEST, error_responses
from service.http.predict_input import read_predict_input
from service.http.record import record_of
from service.http.render import render_prediction
from service.http.request_time import read_in_time, request_timeout_s
from service.http.schemas import PredictResponse
from service.http.services import services_of
from service.priority import HEADER as PRIORITY_HEADER
from service.priority import header_priority

router = APIRouter(prefix="/v1", tags=["predict"], route_class=LeanRoute)


@router.post(
    "/predict",
    response_model=PredictResponse,
    responses=error_responses(400, 404, 413, 415, 422, 429, 500, 503, 504),
    openapi_extra=PREDICT_REQUEST,
)
async def predict(request: Request) -> Response:
    """Ask any of the model's tasks about one or more images.

    With several images a bad one carries its own error and the others are answered; with one image
    the request fails. Answers keep the order asked. Of an animation the first frame is looked at.
    """
    services, record = services_of(request), record_of(request.scope)
    model, version = query_choice(request)
    served = services.core.models.choose(model, version, lot_of(request))  # before the body is read
    deadline = record.started + request_timeout_s(request, services)
    priority = header_priority(request.headers.get(PRIORITY_HEADER))
    record.priority = None if priority is Priority.INTERACTIVE else priority.label
    reading = read_predict_input(request, services.core.decoder, services.settings.max_images)
    given = await read_in_time(reading, services, deadline)
    tasks = select_tasks(served.tasks, given.selectors)
    record.images, record.tasks, record.bundle = len(given.images), len(tasks), served.digest
    prediction = await unless_disconnected(
        request.receive,
        services.core.predictor.predict(served, given.images, tasks, deadline, priority),
    )
    record.timing = prediction.timing
    _raise_if_all_failed(prediction)
    begun = services.core.clock.now()
    body = render_prediction(prediction, record.request_id)
    services.metrics.stage("respond", services.core.clock.now() - begun)
    return Response(body, media_type="application/json")


def _raise_if_all_failed(prediction: Prediction) -> None:
    """One image that failed fails the request, and so do several that failed by a fault of ours."""
    failures = [image for image in prediction.images if isinstance(image, ImageFailure)]
    if len(failures) < len(prediction.images):
        return
    if len(failures) == 1 or all(isinstance(failure.error, RowError) for failure in failures):
        raise failures[0].error
