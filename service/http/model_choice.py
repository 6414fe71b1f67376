"""Which model and version a request is for."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from starlette.requests import Request

from service.core.canary import HEADER, KEY_HEADER, Lot
from service.http.record import record_of

ModelName = Annotated[
    str | None, Query(description="name of the model; by default the first of the setting `model`")
]
VersionNumber = Annotated[
    int | None,
    Query(ge=1, description="one of the versions that are served; by default the one that answers"),
]

CANARY_PARAMETERS: list[dict[str, Any]] = [
    {
        "name": HEADER,
        "in": "header",
        "required": False,
        "schema": {"type": "string", "enum": ["always", "never"]},
        "description": "Ask the canary version, if there is one, or not. Without it a share of the "
        "requests goes there.",
    },
    {
        "name": KEY_HEADER,
        "in": "header",
        "required": False,
        "schema": {"type": "string"},
        "description": "Requests with the same key are answered by the same version, canary or "
        "not; by default the request id decides.",
    },
]


def lot_of(request: Request) -> Lot:
    """What the request brings to the choice between the stable version and the canary.

    Raises:
        InvalidFieldError: a wish that there is not.
    """
    headers = request.headers
    key = headers.get(KEY_HEADER) or record_of(request.scope).request_id
    return Lot(key, headers.get(HEADER))
