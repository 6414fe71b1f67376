"""NVIDIA Triton (through nvidia-pytriton): its dynamic batcher in front of Python instances."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.base import HOST, Peer, Request, Settings

MODEL = "taskroute"


class Triton(Peer):
    name = "triton"
    packages = ("nvidia-pytriton==0.7.0",)
    system_python = True  # its Python stub dies under other builds of the interpreter
    ready_path = f"/v2/models/{MODEL}/ready"

    def request(self, jpeg: bytes, tasks: str) -> Request:
        # The binary extension: JSON, then each string with its length before it.
        parts = [_string(jpeg), _string(tasks.encode())]
        inputs = [
            {
                "name": name,
                "datatype": "BYTES",
                "shape": [1, 1],
                "parameters": {"binary_data_size": len(part)},
            }
            for name, part in zip(("image", "tasks"), parts, strict=True)
        ]
        head = json.dumps({"inputs": inputs, "outputs": [{"name": "answer"}]}).encode()
        headers = {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(len(head)),
        }
        return Request(f"/v2/models/{MODEL}/infer", head + b"".join(parts), headers)

    def predictions(self, body: bytes) -> list[dict[str, Any]]:
        return super().predictions(json.loads(body)["outputs"][0]["data"][0].encode())


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(4, "little") + value


def _instance(settings: Settings) -> Callable[..., Any]:
    """One copy of the model as pytriton's batched inference function."""
    batch = importlib.import_module("pytriton.decorators").batch
    from benchmarks.peers.handler import Handler

    handler = Handler(settings)

    def infer(image: Any, tasks: Any) -> dict[str, Any]:  # both bytes [batch, 1]
        asked = [(bytes(a), b.decode()) for a, b in zip(image[:, 0], tasks[:, 0], strict=True)]
        texts = [json.dumps(one).encode() for one in handler.answer(asked)]
        return {"answer": np.array(texts, dtype=object)[:, None]}

    infer_batch: Callable[..., Any] = batch(infer)
    return infer_batch


def serve() -> None:
    config: Any = importlib.import_module("pytriton.model_config")
    triton: Any = importlib.import_module("pytriton.triton")
    settings = Settings.from_environment()
    server_config = triton.TritonConfig(
        http_address=HOST, http_port=settings.port, allow_grpc=False, allow_metrics=False
    )
    # It keeps sockets in there, whose paths must be short.
    with (
        tempfile.TemporaryDirectory() as workspace,
        triton.Triton(config=server_config, workspace=Path(workspace) / "triton") as server,
    ):
        server.bind(
            model_name=MODEL,
            infer_func=[_instance(settings) for _ in range(settings.workers)],
            inputs=[
                config.Tensor(name=name, dtype=bytes, shape=(1,)) for name in ("image", "tasks")
            ],
            outputs=[config.Tensor(name="answer", dtype=bytes, shape=(1,))],
            config=config.ModelConfig(
                max_batch_size=settings.max_batch,
                batcher=config.DynamicBatcher(max_queue_delay_microseconds=settings.wait_ms * 1000),
            ),
        )
        server.serve()
