"""MLServer: the Open Inference Protocol in Python, adaptive batching before worker processes."""

from __future__ import annotations

import base64
import importlib
import json
from pathlib import Path
from typing import Any

from benchmarks.peers.base import HOST, Peer, Request, Settings
from benchmarks.server import free_port

MODEL = "taskroute"


class MLServer(Peer):
    name = "mlserver"
    packages = ("mlserver==1.7.1", "uvloop<0.22")  # its workers die under newer event loops
    ready_path = f"/v2/models/{MODEL}/ready"

    def prepare(self, python: Path, settings: Settings) -> None:
        folder = Path(settings.folder)
        server = {
            "host": HOST,
            "http_port": settings.port,
            "grpc_port": free_port(),
            "metrics_port": free_port(),
            "parallel_workers": settings.workers,
            "debug": False,  # else a log line per request
            "environments_dir": str(folder / "environments"),
        }
        model = {
            "name": MODEL,
            "implementation": f"{__name__}.Model",
            "max_batch_size": settings.max_batch,
            "max_batch_time": settings.wait_ms / 1000,
        }
        (folder / "settings.json").write_text(json.dumps(server))
        (folder / "model-settings.json").write_text(json.dumps(model))

    def command(self, python: Path, settings: Settings) -> list[str]:
        return [str(python.with_name("mlserver")), "start", settings.folder]

    def request(self, jpeg: bytes, tasks: str) -> Request:
        inputs = [
            {"name": name, "datatype": "BYTES", "shape": [1], "data": [text]}
            for name, text in (("image", base64.b64encode(jpeg).decode()), ("tasks", tasks))
        ]
        headers = {"Content-Type": "application/json"}
        return Request(
            f"/v2/models/{MODEL}/infer", json.dumps({"inputs": inputs}).encode(), headers
        )

    def predictions(self, body: bytes) -> list[dict[str, Any]]:
        return super().predictions(json.loads(body)["outputs"][0]["data"][0].encode())


def __getattr__(name: str) -> Any:
    """``Model`` is made when MLServer asks for it: this module is also read without MLServer."""
    if name != "Model":
        raise AttributeError(name)
    globals()[name] = _model()
    return globals()[name]


def _model() -> Any:
    mlserver: Any = importlib.import_module("mlserver")
    types: Any = importlib.import_module("mlserver.types")

    class Model(mlserver.MLModel):  # type: ignore[misc]
        async def load(self) -> bool:
            from benchmarks.peers.handler import Handler

            self.handler = Handler(Settings.from_environment())
            return True

        async def predict(self, payload: Any) -> Any:  # data [batch] of each of the two inputs
            images, tasks = (list(one.data) for one in payload.inputs)
            asked = [
                (base64.b64decode(image), names) for image, names in zip(images, tasks, strict=True)
            ]
            texts = [json.dumps(one) for one in self.handler.answer(asked)]
            output = types.ResponseOutput(
                name="answer", shape=[len(texts)], datatype="BYTES", data=texts
            )
            return types.InferenceResponse(model_name=self.name, outputs=[output])

    Model.__module__, Model.__qualname__ = __name__, "Model"  # found again by worker processes
    return Model
