"""Calls of tritonclient[grpc], unmodified: python FILE HOST:PORT IMAGE...

Prints one JSON document.

A process of its own: its messages and the service's have the same names, and one process can only
know one of the two.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException


def tensor(images: list[bytes]) -> Any:
    found = triton.InferInput("image", [len(images)], "BYTES")
    found.set_data_from_numpy(np.array(images, dtype=object))
    return found


def refusal(call: Callable[[], object]) -> list[str]:
    try:
        call()
    except InferenceServerException as error:
        return [str(error.status()), str(error.message())]
    return ["OK", ""]


def calls(address: str, images: list[bytes]) -> dict[str, Any]:
    client = triton.InferenceServerClient(address)
    outputs = [
        triton.InferRequestedOutput("t1"),
        triton.InferRequestedOutput("kind", class_count=2),
    ]
    answer = client.infer(
        "fashion",
        [tensor(images)],
        model_version="1",
        outputs=outputs,
        request_id="42",
        timeout=30_000_000,
        client_timeout=60,
        priority=2,
    )
    pixels = np.full((2, 28, 28, 3), 100, np.uint8)
    raw = triton.InferInput("image", pixels.shape, "UINT8")
    raw.set_data_from_numpy(pixels)
    everything = client.infer("fashion", [raw])
    metadata = client.get_model_metadata("fashion", as_json=True)
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model": client.is_model_ready("fashion"),
        "other": client.is_model_ready("fashion", "1"),
        "server": client.get_server_metadata(as_json=True)["name"],
        "outputs": [output["name"] for output in metadata["outputs"]],
        "id": answer.get_response().id,
        "version": answer.get_response().model_version,
        "t1": answer.as_numpy("t1").tolist(),
        "kind": [[text.decode() for text in row] for row in answer.as_numpy("kind")],
        "pixels": everything.as_numpy("t1").tolist(),
        "statistics": client.get_inference_statistics("fashion", as_json=True)["model_stats"],
        "unknown task": refusal(
            lambda: client.infer(
                "fashion", [tensor(images)], outputs=[triton.InferRequestedOutput("knd")]
            )
        ),
        "unknown model": refusal(lambda: client.infer("other", [tensor(images)])),
        "no image": refusal(lambda: client.infer("fashion", [tensor([b"text"])])),
        "load": refusal(lambda: client.load_model("fashion")),
    }


if __name__ == "__main__":
    files = [Path(name).read_bytes() for name in sys.argv[2:]]
    sys.stdout.write(json.dumps(calls(sys.argv[1], files)))
