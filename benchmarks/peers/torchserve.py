"""TorchServe: a Java front that batches, Python workers that run a handler from an archive."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.peers.base import HOST, Peer, Request, Settings
from benchmarks.server import free_port

MODEL = "taskroute"
REQUEST_LIMIT_S = 300
TASKS_HEADER = "X-Tasks"

_HANDLER = f"""\
from benchmarks.peers.handler import shared_handler

def handle(data, context):
    if data is None:
        shared_handler()
        return None
    asked = [
        (bytes(row["body"]), context.get_request_header(index, "{TASKS_HEADER}"))
        for index, row in enumerate(data)
    ]
    return shared_handler().answer(asked)
"""


class TorchServe(Peer):
    name = "torchserve"
    packages = ("torchserve==0.12.0", "torch-model-archiver==0.12.0", "pyyaml")
    programs = ("java",)
    ready_path = "/ping"

    def prepare(self, python: Path, settings: Settings) -> None:
        folder = Path(settings.folder)
        store = folder / "store"
        store.mkdir()
        handler = folder / "taskroute_handler.py"
        handler.write_text(_HANDLER)
        archiver = python.with_name("torch-model-archiver")
        subprocess.run(
            [
                *(str(archiver), "--model-name", MODEL, "--version", "1.0"),
                *("--handler", str(handler), "--export-path", str(store)),
            ],
            check=True,
            capture_output=True,
        )
        (folder / "config.properties").write_text(_properties(settings, store))

    def command(self, python: Path, settings: Settings) -> list[str]:
        folder = Path(settings.folder)
        return [
            *(str(python.with_name("torchserve")), "--start", "--foreground", "--ncs"),
            *("--model-store", str(folder / "store"), "--models", f"{MODEL}.mar"),
            *("--ts-config", str(folder / "config.properties"), "--disable-token-auth"),
        ]

    def environment(self, settings: Settings) -> dict[str, str]:
        return {"LOG_LOCATION": settings.folder, "METRICS_LOCATION": settings.folder}

    def request(self, jpeg: bytes, tasks: str) -> Request:
        headers = {"Content-Type": "image/jpeg", TASKS_HEADER: tasks}
        return Request(f"/predictions/{MODEL}", jpeg, headers)


def _properties(settings: Settings, store: Path) -> str:
    model: dict[str, Any] = {
        "defaultVersion": True,
        "marName": f"{MODEL}.mar",
        "minWorkers": settings.workers,
        "maxWorkers": settings.workers,
        "batchSize": settings.max_batch,
        "maxBatchDelay": settings.wait_ms,
        "responseTimeout": REQUEST_LIMIT_S,
    }
    lines = {
        "inference_address": f"http://{HOST}:{settings.port}",
        "management_address": f"http://{HOST}:{free_port()}",
        "metrics_address": f"http://{HOST}:{free_port()}",
        "grpc_inference_port": free_port(),
        "grpc_management_port": free_port(),
        "model_store": store,
        "default_response_timeout": REQUEST_LIMIT_S,
        "job_queue_size": 1000,
        "disable_system_metrics": "true",
        "models": json.dumps({MODEL: {"1.0": model}}),
    }
    return "".join(f"{name}={value}\n" for name, value in lines.items())
