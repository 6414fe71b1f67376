"""Inference requests as clients write them."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

INFER = "/v2/models/fashion/infer"


def as_json(*images: bytes, shape: list[int] | None = None, **rest: Any) -> dict[str, Any]:
    """Files in base64 within the JSON."""
    data = [base64.b64encode(image).decode() for image in images]
    tensor = {"name": "image", "datatype": "BYTES", "shape": shape or [len(data)], "data": data}
    return {"json": {"inputs": [tensor]} | rest}


def as_pixels(pixels: npt.NDArray[Any], **rest: Any) -> dict[str, Any]:
    """Pixels as nested lists of numbers."""
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(pixels.shape)}
    return {"json": {"inputs": [tensor | {"data": pixels.tolist()}]} | rest}


def pack(*images: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(image)) + image for image in images)


def as_binary(
    data: bytes, shape: list[int], datatype: str = "BYTES", size: Any = None, **rest: Any
) -> dict[str, Any]:
    """Binary data behind the JSON."""
    parameters = {"binary_data_size": len(data) if size is None else size}
    tensor = {"name": "image", "datatype": datatype, "shape": shape, "parameters": parameters}
    header = json.dumps({"inputs": [tensor]} | rest).encode()
    headers = {"Inference-Header-Content-Length": str(len(header))}
    return {"content": header + data, "headers": headers}


def only(*names: str, **parameters: Any) -> list[dict[str, Any]]:
    """Requested outputs, all with the same parameters."""
    return [{"name": name, "parameters": parameters} for name in names]


def decoded(content: bytes, header_bytes: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A binary response: its JSON, and the tensors by name."""
    header = json.loads(content[:header_bytes])
    at, tensors = header_bytes, {}
    for output in header["outputs"]:
        if "data" in output:
            continue
        size = output["parameters"]["binary_data_size"]
        chunk, at = content[at : at + size], at + size
        tensors[output["name"]] = (
            unpack(chunk)
            if output["datatype"] == "BYTES"
            else np.frombuffer(chunk, "<f4").reshape(output["shape"])
        )
    assert at == len(content)
    return header, tensors


def unpack(chunk: bytes) -> list[str]:
    found = []
    while chunk:
        length = struct.unpack_from("<I", chunk)[0]
        found.append(chunk[4 : 4 + length].decode())
        chunk = chunk[4 + length :]
    return found
