"""The real thing for tests: ``python -m service`` on loopback, killed at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

START_LIMIT_S = 120


@dataclass
class Server:
    """A running ``python -m service``; its log is read in the background."""

    process: subprocess.Popen[str]
    log: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                self.log.append(json.loads(line))
            except ValueError:  # it ended before its logs were set up, or badly
                self.log.append({"message": line.rstrip()})

    def wait_for(self, message: str, having: str = "message") -> dict[str, Any]:
        """The first line of the log with this message and a field of that name."""
        until = time.monotonic() + START_LIMIT_S
        while time.monotonic() < until:
            for line in list(self.log):
                if line["message"] == message and having in line:
                    return line
            assert self.process.poll() is None, self.log
            time.sleep(0.02)
        raise AssertionError(f"no log line {message!r}: {self.log}")

    def metric(self, name: str) -> float:
        text = httpx.get(f"{self.url}/metrics").text
        return sum(float(x.split()[-1]) for x in text.splitlines() if x.startswith(name))


@contextmanager
def serving(repository: Path | str, *flags: str, ready: bool = True) -> Iterator[Server]:
    command = [sys.executable, "-m", "service", "--repository", str(repository)]
    command += ["--model", "small", "--port", "0", "--strategy", "subnet", "--threads", "1", *flags]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TASKROUTE_")}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    server = Server(process)
    reader = threading.Thread(target=server.read_log)
    reader.start()
    try:
        server.url = server.wait_for("listening", having="url")["url"]
        if ready:
            server.wait_for("model is ready")
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(60)
        reader.join()
        assert process.stderr is not None
        process.stderr.close()


def answers(body: dict[str, Any]) -> list[dict[str, list[float]]]:
    """For each image: task -> numbers."""
    return [
        {
            row["task"]: [row["probability"], *row.get("probabilities", {}).values()]
            for row in result["predictions"]
        }
        for result in body["results"]
    ]
