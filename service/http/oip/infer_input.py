"""The three forms of an inference request, read into one: JSON, JSON with binary data, a file."""

from __future__ import annotations

from pydantic import ValidationError
from starlette.requests import Request

from service.core.decoder import Decoder
from service.core.errors import (
    InvalidFieldError,
    MalformedRequestError,
    UnsupportedMediaTypeError,
)
from service.core.prediction import EncodedImage
from service.http.predict_input import PARSE_INLINE_BYTES, refused_json
from service.oip.asked import InferInput, the_input, understand
from service.oip.schemas import InferRequest, RequestInput

HEADER_LENGTH = "Inference-Header-Content-Length"


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
    data = _binary_data(the_input(request), memoryview(body)[header_bytes:])
    return understand(request, data, max_images)


def _header_bytes(value: str | None) -> int | None:
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 20):
        raise MalformedRequestError(f"{HEADER_LENGTH} is {value[:40]!r}, not a number of bytes")
    return int(value)


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
