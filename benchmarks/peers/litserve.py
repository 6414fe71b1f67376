"""LitServe: a FastAPI front and worker processes that batch (``max_batch_size``)."""

from __future__ import annotations

import base64
import importlib
import json
from collections.abc import Sequence
from typing import Any

from benchmarks.peers.base import HOST, Peer, Request, Settings

REQUEST_LIMIT_S = 300


class LitServe(Peer):
    name = "litserve"
    packages = ("litserve==0.2.19",)

    def request(self, jpeg: bytes, tasks: str) -> Request:
        # It takes JSON or forms, no raw bodies; base64 is the cheaper of the two to parse.
        content = {"image": base64.b64encode(jpeg).decode(), "tasks": tasks}
        headers = {"Content-Type": "application/json"}
        return Request("/predict", json.dumps(content).encode(), headers)


def __getattr__(name: str) -> Any:
    """``Api`` is made when LitServe's processes ask for it: this module is also read without it."""
    if name != "Api":
        raise AttributeError(name)
    globals()[name] = _api()
    return globals()[name]


def _api() -> Any:
    litserve: Any = importlib.import_module("litserve")

    class Api(litserve.LitAPI):  # type: ignore[misc]
        def setup(self, device: str) -> None:
            from benchmarks.peers.handler import Handler

            self.handler = Handler(Settings.from_environment())

        def decode_request(self, request: dict[str, str]) -> tuple[bytes, str]:
            return base64.b64decode(request["image"]), request["tasks"]

        def batch(self, inputs: list[tuple[bytes, str]]) -> list[tuple[bytes, str]]:
            return inputs

        def predict(self, asked: Sequence[tuple[bytes, str]]) -> list[dict[str, Any]]:
            return self.handler.answer(asked)

        def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return output

    Api.__module__, Api.__qualname__ = __name__, "Api"  # found again by worker processes
    return Api


def serve() -> None:
    litserve: Any = importlib.import_module("litserve")
    settings = Settings.from_environment()
    api = __getattr__("Api")(
        max_batch_size=settings.max_batch, batch_timeout=settings.wait_ms / 1000
    )
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=settings.workers, timeout=REQUEST_LIMIT_S
    )
    server.run(
        host=HOST,
        port=settings.port,
        num_api_servers=1,
        generate_client_file=False,
        access_log=False,
    )
