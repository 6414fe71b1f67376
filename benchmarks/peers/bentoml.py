"""BentoML: a batchable endpoint behind its adaptive batcher."""

from __future__ import annotations

import base64
import importlib
import json
from pathlib import Path
from typing import Any

from benchmarks.peers.base import HOST, Peer, Request, Settings

REQUEST_LIMIT_S = 300


class BentoML(Peer):
    name = "bentoml"
    packages = ("bentoml==1.4.39",)
    ready_path = "/readyz"

    def command(self, python: Path, settings: Settings) -> list[str]:
        return [
            *(str(python), "-m", "bentoml", "serve", f"{__name__}:service"),
            *("--host", HOST, "--port", str(settings.port)),
        ]

    def environment(self, settings: Settings) -> dict[str, str]:
        return {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": settings.folder}

    def request(self, jpeg: bytes, tasks: str) -> Request:
        # A batchable endpoint takes one parameter with a batch axis: here a list of one request.
        one = {"image": base64.b64encode(jpeg).decode(), "tasks": tasks}
        headers = {"Content-Type": "application/json"}
        return Request("/predict", json.dumps({"asked": [one]}).encode(), headers)

    def predictions(self, body: bytes) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(body)[0]["predictions"]
        return found


def __getattr__(name: str) -> Any:
    """``service`` is made when BentoML asks for it: this module is also read without BentoML."""
    if name != "service":
        raise AttributeError(name)
    globals()[name] = _service()
    return globals()[name]


def _service() -> Any:
    bentoml: Any = importlib.import_module("bentoml")
    settings = Settings.from_environment()

    class TaskRoute:
        def __init__(self) -> None:
            from benchmarks.peers.handler import Handler

            self.handler = Handler(settings)

        def predict(self, asked: list[dict[str, str]]) -> list[dict[str, Any]]:
            pairs = [(base64.b64decode(one["image"]), one["tasks"]) for one in asked]
            return self.handler.answer(pairs)

    # Resolved here: BentoML reads the annotations, and names of this function are out of its reach.
    TaskRoute.predict.__annotations__.update(
        {"asked": list[dict[str, str]], "return": list[dict[str, Any]]}
    )
    TaskRoute.predict = bentoml.api(  # type: ignore[method-assign]
        TaskRoute.predict,
        batchable=True,
        max_batch_size=settings.max_batch,
        max_latency_ms=REQUEST_LIMIT_S * 1000,
    )
    return bentoml.service(workers=settings.workers, traffic={"timeout": REQUEST_LIMIT_S})(
        TaskRoute
    )
