"""Tensors of the protocol: BYTES and UINT8 in JSON or behind it, to images.

Binary data are little-endian and row-major; a BYTES element is its length (uint32) and its bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from service.core.errors import InvalidFieldError, MalformedRequestError
from service.core.images_given import check_count, decode_base64
from service.core.job import Pixels
from service.core.prediction import EncodedImage
from service.oip.schemas import RequestInput

_LENGTH = struct.Struct("<I")
_CHANNELS = 3


def images_of(
    tensor: RequestInput, binary: memoryview | None, max_images: int
) -> list[EncodedImage]:
    """One image for each element of the tensor's first dimension.

    Args:
        binary: the tensor's data, if they came behind the JSON.

    Raises:
        RequestError: type, shape and data do not fit together, or are no images.
    """
    if tensor.datatype == "BYTES":
        count = math.prod(tensor.shape)
        check_count(count, max_images)
        files = _from_json(tensor, count) if binary is None else _from_binary(binary, count)
        return list(files)
    if tensor.datatype == "UINT8":
        shape = tensor.shape
        if len(shape) != 4 or shape[-1] != _CHANNELS:
            raise _wrong(f"shape is {shape[:8]}; UINT8 pixels are [N, height, width, 3]", "shape")
        check_count(shape[0], max_images)
        if not shape[1] * shape[2]:
            raise _wrong(f"shape is {shape}: images without pixels", "shape")
        pixels = _numbers(tensor.data, shape) if binary is None else _raw(binary, shape)
        return [EncodedImage(str(index), image) for index, image in enumerate(pixels)]
    raise _wrong(
        f"datatype is {tensor.datatype[:40]!r}; an image is BYTES (a JPEG, PNG or WebP file for "
        "each element) or UINT8 (pixels [N, height, width, 3])",
        "datatype",
    )


def pack_bytes(elements: Sequence[str] | Sequence[bytes]) -> bytes:
    """Strings or files as the binary data of a BYTES tensor."""
    encoded = [one.encode() if isinstance(one, str) else one for one in elements]
    return b"".join(_LENGTH.pack(len(element)) + element for element in encoded)


def _from_json(tensor: RequestInput, count: int) -> Iterator[EncodedImage]:
    kind = (tensor.parameters or {}).get("content_type", "base64")
    if kind != "base64":
        raise _wrong(
            f"parameters.content_type is {str(kind)[:40]!r}; BYTES in JSON are files in base64",
            "parameters.content_type",
        )
    elements = list(_flat(tensor.data))
    if len(elements) != count:
        raise _wrong(f"data has {len(elements)} elements; shape {tensor.shape} has {count}", "data")
    for index, element in enumerate(elements):
        if not isinstance(element, str):
            raise _wrong(f"element {index} is no string; BYTES in JSON are files in base64", "data")
        yield decode_base64(str(index), element)


def _from_binary(data: memoryview, count: int) -> Iterator[EncodedImage]:
    at = 0
    for index in range(count):
        start = at + _LENGTH.size
        if start > len(data):
            raise _cut(f"{len(data)} bytes hold {index} of {count} BYTES elements")
        (length,) = _LENGTH.unpack_from(data, at)
        at = start + length
        if at > len(data):
            raise _cut(
                f"element {index} is to have {length} bytes, but {len(data) - start} are left; a "
                "BYTES element is its length (uint32, little-endian) and its bytes"
            )
        yield EncodedImage(str(index), bytes(data[start:at]))
    if at != len(data):
        raise _cut(f"{len(data) - at} bytes are left after {count} BYTES elements")


def _numbers(data: Any, shape: Sequence[int]) -> Pixels:
    try:
        # As objects first: NumPy would make every element as wide as the longest string.
        found = np.asarray(data, dtype=object)
    except ValueError:
        raise _wrong("data is nested unevenly", "data") from None
    if found.size != math.prod(shape):
        raise _wrong(
            f"data has {found.size} numbers; shape {list(shape)} has {math.prod(shape)}", "data"
        )
    if set(map(type, found.flat)) != {int} or found.min() < 0 or found.max() > 255:
        raise _wrong("data has something else than whole numbers from 0 to 255", "data")
    return found.astype(np.uint8).reshape(shape)


def _raw(data: memoryview, shape: Sequence[int]) -> Pixels:
    if len(data) != math.prod(shape):
        raise _cut(f"{len(data)} bytes came; shape {list(shape)} has {math.prod(shape)}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _flat(data: Any) -> Iterator[Any]:
    # The JSON parser bounds the nesting.
    if not isinstance(data, list):
        raise _wrong("data is no list", "data")
    for element in data:
        if isinstance(element, list):
            yield from _flat(element)
        else:
            yield element


def _wrong(message: str, field: str) -> InvalidFieldError:
    return InvalidFieldError(f'input "image": {message}', field=f"inputs.0.{field}")


def _cut(message: str) -> MalformedRequestError:
    return MalformedRequestError(f'input "image", binary data: {message}')
