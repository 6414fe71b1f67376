"""Which model and version a request is for."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import Field
from starlette.requests import Request

from model.version_names import is_version
from service.core.canary import HEADER, KEY_HEADER, Lot
from service.core.errors import InvalidFieldError
from service.http.record import record_of

_MODEL_HELP = "name of the model; by default the first of the setting `model`"
_VERSION_HELP = "one of the versions that are served; by default the one that answers"
_MOST = 999_999_999  # see model.version_names

Version = Annotated[int, Field(ge=1, le=_MOST)]

ModelName = Annotated[str | None, Query(description=_MODEL_HELP)]
VersionNumber = Annotated[Version | None, Query(description=_VERSION_HELP)]

# The same, for routes that read them themselves.
QUERY_PARAMETERS: list[dict[str, Any]] = [
    {
        "name": "model",
        "in": "query",
        "required": False,
        "schema": {"type": "string"},
        "description": _MODEL_HELP,
    },
    {
        "name": "version",
        "in": "query",
        "required": False,
        "schema": {"type": "integer", "minimum": 1, "maximum": _MOST},
        "description": _VERSION_HELP,
    },
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


def query_choice(request: Request) -> tuple[str | None, int | None]:
    """The model and the version that the query names, if any.

    Raises:
        InvalidFieldError: the version is no number from 1.
    """
    query = request.query_params
    version = query.get("version")
    if version is not None and not is_version(version):
        raise InvalidFieldError(
            f"version is {version[:40]!r}; versions are whole numbers from 1", field="version"
        )
    return query.get("model"), None if version is None else int(version)


def lot_of(request: Request) -> Lot:
    """What the request brings to the choice between the stable version and the canary.

    Raises:
        InvalidFieldError: a wish that there is not.
    """
    headers = request.headers
    key = headers.get(KEY_HEADER) or record_of(request.scope).request_id
    return Lot(key, headers.get(HEADER))
