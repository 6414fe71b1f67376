"""What the generated API description cannot know: bodies read by hand, errors, examples."""

from __future__ import annotations

from typing import Any

from service.http.middleware.keys import needed_scope
from service.http.model_choice import CANARY_PARAMETERS, QUERY_PARAMETERS
from service.http.predict_input import FORM_TYPE, IMAGE_TYPES, JSON_TYPE, PredictBody
from service.http.schemas import ErrorBody

_STATUS_MEANING = {
    400: "The body or a parameter does not parse.",
    401: "No API key, or one that is not known.",
    403: "Not with this key; or nobody may administer this service.",
    404: "No such model or version is served.",
    408: "The headers did not come to an end.",
    409: "No version before is kept in memory, this one is needed, or there are too many.",
    413: "The body, an image or the number of images is over a limit (`/v1/limits`).",
    415: "Not an accepted media type or image type.",
    422: "An unknown task (with the nearest names), an undecodable image or an invalid field.",
    429: "The queue is full, or too many bodies are on their way; `Retry-After` says when to come "
    "back.",
    431: "The request line and the headers are too long.",
    500: "A fault of the server's; its log has the details under the request id.",
    503: "Loading, draining, or the engine is down; `Retry-After` says when to come back.",
    504: "The request's deadline passed (`X-Request-Timeout-Ms`).",
}
_WITH_RETRY_AFTER = (429, 503)
# Said in front of every route: by the server, the limits of bodies, the shield.
_ANYWHERE = (400, 408, 413, 429, 431, 500)
_ERROR_REFERENCE = {"$ref": "#/components/schemas/ErrorBody"}
_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}

_TASKS_HELP = (
    "Task names, `group:NAME` or `*`, repeated or comma-separated. "
    "Left out: all tasks. See `/v1/tasks`."
)
_PIXEL = (  # a PNG of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4"
    "2mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Documentation of a route's own error statuses, all with the one body."""
    return {status: {"model": ErrorBody, **_error_response(status)} for status in statuses}


def complete(document: dict[str, Any], *, keys: bool) -> dict[str, Any]:
    """Add to every operation what is said in front of it.

    Args:
        document: the generated description; changed.
        keys: API keys are asked for.
    """
    if keys:
        document["components"]["securitySchemes"] = _SECURITY_SCHEMES
    for path, operations in document["paths"].items():
        guarded = keys and needed_scope(path) is not None
        for operation in operations.values():
            if guarded:
                operation["security"] = [{name: []} for name in _SECURITY_SCHEMES]
            responses = operation["responses"]
            for status in (*_ANYWHERE, *((401, 403) if guarded else ())):
                content = {"application/json": {"schema": _ERROR_REFERENCE}}
                responses.setdefault(str(status), {**_error_response(status), "content": content})
            operation["responses"] = dict(sorted(responses.items()))
    return document


def _error_response(status: int) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    if status in _WITH_RETRY_AFTER:
        headers["Retry-After"] = {"schema": {"type": "integer"}, "description": "seconds"}
    if status == 401:
        headers["WWW-Authenticate"] = {"schema": {"type": "string"}}
    described: dict[str, Any] = {"description": _STATUS_MEANING[status]}
    return described | ({"headers": headers} if headers else {})


def _json_schema() -> dict[str, Any]:
    schema = PredictBody.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = schema.pop("$defs")
    # A body that is read by hand has no component of its own: put the one nested model in place.
    schema["properties"]["images"]["items"] = definitions["ImagePart"]
    return schema


_FORM_SCHEMA = {
    "type": "object",
    "required": ["image"],
    "properties": {
        "image": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "description": "One or more JPEG, PNG or WebP files.",
        },
        "tasks": {
            "type": "array",
            "items": {"type": "string"},
            "description": _TASKS_HELP,
            "example": ["footwear", "category"],
        },
    },
}

PRIORITY_PARAMETER: dict[str, Any] = {
    "name": "X-Request-Priority",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "enum": ["interactive", "bulk"], "default": "interactive"},
    "description": "bulk: answer when no interactive request waits; refused first on overload.",
}

PREDICT_REQUEST: dict[str, Any] = {
    "parameters": [
        *QUERY_PARAMETERS,
        {
            "name": "tasks",
            "in": "query",
            "required": False,
            "schema": {"type": "string"},
            "description": f"With an image as the whole body only. {_TASKS_HELP}",
            "example": "footwear,category",
        },
        {
            "name": "X-Request-Timeout-Ms",
            "in": "header",
            "required": False,
            "schema": {"type": "number", "exclusiveMinimum": 0},
            "description": "Milliseconds until the answer is of no use: 504 afterwards.",
        },
        PRIORITY_PARAMETER,
        *CANARY_PARAMETERS,
        {
            "name": "X-Request-ID",
            "in": "header",
            "required": False,
            "schema": {"type": "string", "maxLength": 128},
            "description": "Echoed in the answer and in the log; by default a new one.",
        },
    ],
    "requestBody": {
        "required": True,
        "content": {
            FORM_TYPE: {"schema": _FORM_SCHEMA},
            **{
                media_type: {"schema": {"type": "string", "format": "binary"}}
                for media_type in IMAGE_TYPES
            },
            JSON_TYPE: {
                "schema": _json_schema(),
                "example": {
                    "images": [{"id": "photo-1", "content": _PIXEL}],
                    "tasks": ["footwear", "category"],
                },
            },
        },
    },
}
