"""TaskRoute's own service."""

from __future__ import annotations

import json
import re
import shlex
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.peers.base import HOST, Peer, Request, Settings

_MOST_TASKS = 40  # in a request of the comparison


class Ours(Peer):
    name = "ours"
    ready_path = "/v2/health/ready"

    def command(self, python: Path, settings: Settings) -> list[str]:
        one = [
            *(str(python), "-m", "service", "--repository", settings.repository),
            *("--model", settings.model, "--host", HOST, "--port", str(settings.port)),
        ]
        if settings.workers == 1:
            return one
        # Replicas, as a deployment runs them; the harness ends the whole tree of processes.
        replica = shlex.join([*one, "--reuse-port", "true"])
        return ["sh", "-c", f"{f'{replica} & ' * settings.workers}wait"]

    def environment(self, settings: Settings) -> dict[str, str]:
        # Like the peers' access logs, ours are off; and batches may be as large as theirs: by
        # default they are smaller, for the sake of latency.
        return {
            "TASKROUTE_STRATEGY": settings.strategy,
            "TASKROUTE_MAX_BATCH_ROWS": str(settings.max_batch * _MOST_TASKS),
            "TASKROUTE_MAX_BATCH_DURATION_MS": "1000",
            "TASKROUTE_THREADS": str(settings.threads),
            "TASKROUTE_LOG_LEVEL": "warning",
        }

    def rows_per_batch(self, settings: Settings) -> float | None:
        # Of several replicas, whichever answers.
        with urllib.request.urlopen(f"http://{HOST}:{settings.port}/metrics") as answer:
            text = answer.read().decode()
        rows, batches = (
            sum(map(float, re.findall(rf"^taskroute_batch_rows_{part}\S* (\S+)$", text, re.M)))
            for part in ("sum", "count")
        )
        return rows / batches if batches else None

    def request(self, jpeg: bytes, tasks: str) -> Request:
        return Request(f"/v1/predict?tasks={tasks}", jpeg, {"Content-Type": "image/jpeg"})

    def predictions(self, body: bytes) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(body)["results"][0]["predictions"]
        return found
