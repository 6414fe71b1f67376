"""The three forms of an inference request, read into one: JSON, JSON with binary data, a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request

from service.core.decoder import Decoder
from service.core.errors import (
    InvalidFieldError,
    MalformedRequestError,
    UnsupportedMediaTypeError,
)
from service.core.prediction import EncodedImage
from service.core.priority import Priority
from service.http.oip.schemas import InferRequest, RequestInput, RequestOutput
from service.http.oip.tensors import images_of
from service.http.predict_input import PARSE_INLINE_BYTES, refused_json

HEADER_LENGTH = "Inference-Header-Content-Length"
INPUT_NAME = "image"


@dataclass(frozen=True)
class OutputForm:
    """How one output is wanted."""

    name: str
    classification: int = 0  # best k as "probability:index:label"; 0: all probabilities
    binary: bool = False  # behind the JSON


@dataclass(frozen=True)
class InferInput:
    """What was asked, whatever the form."""

    images: Sequence[EncodedImage]
    outputs: Sequence[OutputForm] | None = None  # None: every task
    id: str | None = None
    timeout_s: float | None = None
    binary: bool = False  # of outputs that say nothing about it
    priority: Priority | None = None


async def read_infer_input(request: Request, decoder: Decoder, max_images: int) -> InferInput:
    """Read the body of an inference request.

    Raises:
        RequestError: in one of its kinds; the body does not parse or has something that cannot be
            used.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise UnsupportedMediaTypeError(
            f"Content-Encoding is {encoding[:40]!r}; send the body as it is", accepted=["identity"]
        )
    header_bytes = _header_bytes(request.headers.get(HEADER_LENGTH))
    body = await request.body()
    if (len(body) if header_bytes is None else header_bytes) <= PARSE_INLINE_BYTES:
        return parse_infer(body, header_bytes, max_images)
    return await decoder.run(parse_infer, body, header_bytes, max_images)


def parse_infer(body: bytes, header_bytes: int | None, max_images: int) -> InferInput:
    """Parse a request whose JSON has ``header_bytes``: None for all of it, 0 for a bare image file.

    CPU-bound.
    """
    if header_bytes == 0:  # as Triton does: one input, all outputs as binary data
        return InferInput([EncodedImage("0", body)], binary=True)
    if header_bytes is None:
        header_bytes = len(body)
    elif header_bytes > len(body):
        raise MalformedRequestError(
            f"{HEADER_LENGTH} is {header_bytes}, but the body has {len(body)} bytes"
        )
    try:
        request = InferRequest.model_validate_json(body[:header_bytes])
    except ValidationError as error:
        raise refused_json(error) from None
    tensor = _the_input(request)
    data = _binary_data(tensor, memoryview(body)[header_bytes:])
    parameters = request.parameters or {}
    binary = _flag(parameters, "binary_data_output", "parameters") or False
    return InferInput(
        images_of(tensor, data, max_images),
        _outputs(request.outputs, binary),
        request.id,
        _timeout_s(parameters),
        binary,
        _priority(parameters),
    )


def _header_bytes(value: str | None) -> int | None:
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 20):
        raise MalformedRequestError(f"{HEADER_LENGTH} is {value[:40]!r}, not a number of bytes")
    return int(value)


def _the_input(request: InferRequest) -> RequestInput:
    names = [tensor.name for tensor in request.inputs]
    if names != [INPUT_NAME]:
        shown = ", ".join(repr(name[:40]) for name in names[:5]) or "none"
        raise InvalidFieldError(
            f"inputs are {shown}; expected exactly one, {INPUT_NAME!r}: several images are elements"
            " of one tensor",
            field="inputs",
        )
    return request.inputs[0]


def _binary_data(tensor: RequestInput, behind: memoryview) -> memoryview | None:
    """The tensor's part of what lies behind the JSON: all of it, as there is one tensor."""
    parameters = tensor.parameters or {}
    if any(name.startswith("shared_memory") for name in parameters):
        raise InvalidFieldError(
            "shared memory is not offered: send the data in the body",
            field="inputs.0.parameters",
        )
    size = parameters.get("binary_data_size")
    if size is None:
        if len(behind):
            raise MalformedRequestError(
                f"{len(behind)} bytes follow the JSON, but the input has no binary_data_size"
            )
        return None
    if tensor.data is not None:
        raise InvalidFieldError(
            "the input has both data and binary_data_size", field="inputs.0.data"
        )
    if type(size) is not int or size != len(behind):
        raise MalformedRequestError(
            f"binary_data_size is {str(size)[:40]!r}, but {len(behind)} bytes follow the JSON, "
            f"which ends where {HEADER_LENGTH} says"
        )
    return behind


def _outputs(
    asked: Sequence[RequestOutput] | None, binary_by_default: bool
) -> list[OutputForm] | None:
    if not asked:
        return None
    forms = []
    for position, output in enumerate(asked):
        parameters, field = output.parameters or {}, f"outputs.{position}.parameters"
        binary = _flag(parameters, "binary_data", field)
        forms.append(
            OutputForm(
                output.name,
                _count(parameters, "classification", field),
                binary_by_default if binary is None else binary,
            )
        )
    return forms


def _timeout_s(parameters: Mapping[str, Any]) -> float | None:
    """Triton's unit is the microsecond, and its 0 means that none was given."""
    return _count(parameters, "timeout", "parameters") / 1e6 or None


def _priority(parameters: Mapping[str, Any]) -> Priority | None:
    """Triton's numbers: 1 is the most pressing level, and 0 means that none was given."""
    value = parameters.get("priority", 0)
    if type(value) is int and 0 <= value <= max(Priority):
        return Priority(value) if value else None
    raise InvalidFieldError(
        f"parameters.priority is {str(value)[:40]!r}; expected 1 (interactive) or 2 (bulk)",
        field="parameters.priority",
    )


def _flag(parameters: Mapping[str, Any], name: str, field: str) -> bool | None:
    value = parameters.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise InvalidFieldError(
        f"{field}.{name} is {str(value)[:40]!r}; expected true or false", field=f"{field}.{name}"
    )


def _count(parameters: Mapping[str, Any], name: str, field: str) -> int:
    value = parameters.get(name, 0)
    if type(value) is int and 0 <= value < 2**63:
        return value
    raise InvalidFieldError(
        f"{field}.{name} is {str(value)[:40]!r}; expected a whole number, 0 or more",
        field=f"{field}.{name}",
    )
