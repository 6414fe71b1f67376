"""What the generated API description cannot know: bodies read by hand, errors, examples."""

from __future__ import annotations

from typing import Any

from service.http.model_choice import CANARY_PARAMETERS
from service.http.predict_input import FORM_TYPE, IMAGE_TYPES, JSON_TYPE, PredictBody
from service.http.schemas import ErrorBody

_STATUS_MEANING = {
    400: "The body or a parameter does not parse.",
    404: "No such model or version is served.",
    403: "Nobody may administer this service, or not with this key.",
    409: "No version before is kept in memory, this one is needed, or there are too many.",
    413: "The body, an image or the number of images is over a limit (`/v1/limits`).",
    415: "Not an accepted media type or image type.",
    422: "An unknown task (with the nearest names), an undecodable image or an invalid field.",
    429: "The queue is full; `Retry-After` says when to come back.",
    500: "A fault of the server's; its log has the details under the request id.",
    503: "Loading, draining, or the engine is down; `Retry-After` says when to come back.",
    504: "The request's deadline passed (`X-Request-Timeout-Ms`).",
}
_WITH_RETRY_AFTER = (429, 503)

_TASKS_HELP = (
    "Task names, `group:NAME` or `*`, repeated or comma-separated. "
    "Left out: all tasks. See `/v1/tasks`."
)
_PIXEL = (  # a PNG of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4"
    "2mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Documentation of error statuses, all with the one body."""
    responses: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        responses[status] = {"model": ErrorBody, "description": _STATUS_MEANING[status]}
        if status in _WITH_RETRY_AFTER:
            responses[status]["headers"] = {
                "Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}
            }
    return responses


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
