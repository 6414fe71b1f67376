"""TaskRoute's own service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.peers.base import HOST, Peer, Request, Settings


class Ours(Peer):
    name = "ours"
    ready_path = "/v2/health/ready"

    def command(self, python: Path, settings: Settings) -> list[str]:
        return [
            *(str(python), "-m", "service", "--repository", settings.repository),
            *("--model", settings.model, "--host", HOST, "--port", str(settings.port)),
        ]

    def environment(self, settings: Settings) -> dict[str, str]:
        return {"TASKROUTE_STRATEGY": settings.strategy}

    def request(self, jpeg: bytes, tasks: str) -> Request:
        return Request(f"/v1/predict?tasks={tasks}", jpeg, {"Content-Type": "image/jpeg"})

    def predictions(self, body: bytes) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(body)["results"][0]["predictions"]
        return found
