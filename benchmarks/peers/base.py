"""What every server under measurement has to tell: how to install, start, ask and read it.

A peer's file has two halves. The :class:`Peer` is imported by the measuring process, in this
project's environment. ``serve()`` and what it needs run in the peer's own environment; the
framework is imported in there only, which is why classes that derive from it are made on demand.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

SETTINGS_VARIABLE = "BENCHMARK_PEER_SETTINGS"
BATCHES_FILE = "batches.txt"  # in Settings.folder: the rows of each batch, one number a line
HOST = "127.0.0.1"

# The same for every peer that batches; what each framework calls them is in its file.
MAX_BATCH_REQUESTS = 32
BATCH_WAIT_MS = 5

Strategy = Literal["masked", "subnet"]


@dataclass(frozen=True)
class Settings:
    """What a peer's server needs to know; handed over in one environment variable."""

    repository: str
    model: str
    port: int
    strategy: Strategy
    folder: str  # scratch space of this start
    workers: int = 1  # copies of the model
    threads: int = 2  # torch threads of each copy
    max_batch: int = MAX_BATCH_REQUESTS
    wait_ms: int = BATCH_WAIT_MS

    @classmethod
    def from_environment(cls) -> Self:
        return cls(**json.loads(os.environ[SETTINGS_VARIABLE]))

    def environment(self) -> dict[str, str]:
        return {SETTINGS_VARIABLE: json.dumps(asdict(self))}


@dataclass(frozen=True)
class Request:
    """One HTTP request."""

    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"

    def encoded(self, host: str) -> bytes:
        """The bytes on the wire, HTTP/1.1 with keep-alive."""
        headers = {"Host": host, **self.headers, "Content-Length": str(len(self.body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{self.method} {self.path} HTTP/1.1\r\n{head}\r\n".encode() + self.body


class Peer:
    """A server under measurement."""

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()  # installed into an environment of its own
    programs: ClassVar[tuple[str, ...]] = ()  # that must be found on PATH, e.g. java
    system_python: ClassVar[bool] = False  # needs the distribution's own interpreter
    ready_path: ClassVar[str] = "/health"
    start_limit_s: ClassVar[float] = 120.0

    def command(self, python: Path, settings: Settings) -> list[str]:
        """The command line that serves until it is told to stop."""
        # Not `-m`: worker processes must find the module's classes under its own name.
        return [str(python), "-c", f"from {type(self).__module__} import serve; serve()"]

    def rows_per_batch(self, settings: Settings) -> float | None:
        """Mean size of the batches that the server has run; shows whether it batches at all."""
        file = Path(settings.folder) / BATCHES_FILE
        sizes = [int(line) for line in file.read_text().split()] if file.is_file() else []
        return sum(sizes) / len(sizes) if sizes else None

    def prepare(self, python: Path, settings: Settings) -> None:
        """Writes the files that the server reads at its start into ``settings.folder``."""

    def environment(self, settings: Settings) -> dict[str, str]:
        """Variables beyond the thread counts and the settings."""
        return {}

    def request(self, jpeg: bytes, tasks: str) -> Request:
        """Asks ``tasks`` (comma-separated names, or ``*``) of one JPEG file."""
        raise NotImplementedError

    def predictions(self, body: bytes) -> list[dict[str, Any]]:
        """The answer's predictions: each has ``task``, ``label`` and ``probability``."""
        found: list[dict[str, Any]] = json.loads(body)["predictions"]
        return found
