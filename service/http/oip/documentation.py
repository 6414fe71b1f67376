"""What the generated API description cannot know of the protocol's requests."""

from __future__ import annotations

from typing import Any

from service.http.model_choice import CANARY_PARAMETERS
from service.http.oip.infer_input import HEADER_LENGTH
from service.http.openapi import PRIORITY_PARAMETER
from service.oip.schemas import IndexRequest, InferRequest, LoadRequest

_PIXEL = (  # a PNG of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4"
    "2mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


def _infer_schema() -> dict[str, Any]:
    schema = InferRequest.model_json_schema(ref_template="{model}")
    definitions = schema.pop("$defs")
    # A body that is read by hand has no component of its own: put the nested models in place.
    schema["properties"]["inputs"]["items"] = definitions["RequestInput"]
    schema["properties"]["outputs"]["anyOf"][0]["items"] = definitions["RequestOutput"]
    return schema


def _parameter(name: str, place: str) -> dict[str, Any]:
    required = place == "path"
    return {"name": name, "in": place, "required": required, "schema": {"type": "string"}}


INFER_REQUEST: dict[str, Any] = {
    "parameters": [
        _parameter("name", "path"),
        _parameter("version", "query"),
        {
            "name": HEADER_LENGTH,
            "in": "header",
            "required": False,
            "schema": {"type": "integer", "minimum": 0},
            "description": "Bytes of JSON in a body with binary tensors behind it; 0: the body is "
            "one image file, all tasks are asked, and the answer has binary tensors.",
        },
        {
            "name": "X-Request-Timeout-Ms",
            "in": "header",
            "required": False,
            "schema": {"type": "number", "exclusiveMinimum": 0},
            "description": "Milliseconds until the answer is of no use: 504 afterwards. The "
            "parameter timeout, in microseconds as Triton's, does the same.",
        },
        PRIORITY_PARAMETER
        | {
            "description": f"{PRIORITY_PARAMETER['description']} The parameter priority (1: "
            "interactive, 2: bulk) does the same, and wins."
        },
        *CANARY_PARAMETERS,
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": _infer_schema(),
                "example": {
                    "id": "42",
                    "inputs": [
                        {"name": "image", "datatype": "BYTES", "shape": [1], "data": [_PIXEL]}
                    ],
                    "outputs": [
                        {"name": "footwear"},
                        {"name": "category", "parameters": {"classification": 3}},
                    ],
                    "parameters": {"timeout": 2_000_000},
                },
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
}

INFER_VERSION_REQUEST: dict[str, Any] = INFER_REQUEST | {
    "parameters": [
        _parameter("name", "path"),
        _parameter("version", "path"),
        *INFER_REQUEST["parameters"][2:],
    ]
}

# Where outputs were asked as binary data: the JSON, as long as the header says, then the tensors.
BINARY_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {HEADER_LENGTH: {"schema": {"type": "integer", "minimum": 0}}},
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}

INDEX_REQUEST: dict[str, Any] = {
    "requestBody": {
        "required": False,
        "content": {
            "application/json": {
                "schema": IndexRequest.model_json_schema(),
                "example": {"ready": True},
            }
        },
    }
}

LOAD_REQUEST: dict[str, Any] = {
    "requestBody": {
        "required": False,
        "content": {
            "application/json": {
                "schema": LoadRequest.model_json_schema(),
                "example": {"parameters": {"version": "2"}},
            }
        },
    }
}
