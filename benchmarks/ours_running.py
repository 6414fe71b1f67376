"""Our own service alone under measurement: for overload, soak and memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks import bundles
from benchmarks.peers.base import Request, Settings
from benchmarks.peers.ours import Ours
from benchmarks.server import Server, free_port, running

SCRATCH = bundles.CACHE / "run"


class OursAsShipped(Ours):
    """With its default settings except those given."""

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        self._variables = dict(variables or {})

    def environment(self, settings: Settings) -> dict[str, str]:
        return {"TASKROUTE_LOG_LEVEL": "warning", **self._variables}


class OursWithDeadline(OursAsShipped):
    """Every request gives itself ``deadline_ms``."""

    def __init__(self, deadline_ms: int) -> None:
        super().__init__()
        self._deadline_ms = deadline_ms

    def request(self, jpeg: bytes, tasks: str) -> Request:
        request = super().request(jpeg, tasks)
        timeout = {"X-Request-Timeout-Ms": str(self._deadline_ms)}
        return replace(request, headers={**request.headers, **timeout})


@contextmanager
def service(peer: Ours, spec: bundles.BundleSpec, name: str) -> Iterator[tuple[Server, Settings]]:
    """The service on both cores with the bundle of ``spec``, published first if need be."""

    settings = Settings(
        repository=str(bundles.ensure(spec)),
        model=spec.model,
        port=free_port(),
        strategy="subnet",
        folder=str((SCRATCH / name).resolve()),
    )
    with running(peer, Path(sys.executable), settings) as server:
        yield server, settings
