"""Calls of KServe's own client, run by an interpreter that has it: python FILE URL PNG PNG.

Its dependencies (protobuf, dateutil) are older than ours, so it cannot share our environment.
Prints one JSON document.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any


async def calls(url: str, images: list[bytes]) -> dict[str, Any]:
    import numpy as np
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
    from kserve.protocol.infer_type import RequestedOutput

    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=60))
    found: dict[str, Any] = {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model": await client.is_model_ready(url, "small"),
        "other": await client.is_model_ready(url, "other"),
    }
    tensor = InferInput("image", [len(images)], "BYTES")
    tensor.set_data_from_numpy(np.array(images, dtype=object), binary_data=True)
    request = InferRequest(
        "small",
        [tensor],
        request_id="42",
        request_outputs=[
            RequestedOutput("shoe", {"binary_data": True}),
            RequestedOutput("kind", {"classification": 2}),
        ],
    )
    response = await client.infer(url, request, model_name="small")
    shoe, kind = response.outputs
    found["binary"] = {
        "id": response.id,
        "shoe": shoe.as_numpy().tolist(),
        "kind": [str(text) for text in kind.data],
    }
    pixels = InferInput("image", [1, 2, 2, 3], "UINT8", data=list(range(12)))
    response = await client.infer(url, InferRequest("small", [pixels]), model_name="small")
    found["json"] = {output.name: list(output.data) for output in response.outputs}
    try:
        await client.infer(url, {"inputs": []}, model_name="small")
    except Exception as error:
        found["error"] = str(error)
    await client.close()
    return found


if __name__ == "__main__":
    files = [Path(name).read_bytes() for name in sys.argv[2:]]
    sys.stdout.write(json.dumps(asyncio.run(calls(sys.argv[1], files))))
