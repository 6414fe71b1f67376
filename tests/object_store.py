"""An S3-compatible server on loopback, in a process of its own: it keeps all in memory.

Run as ``python -m tests.object_store PORT``; prints the port it listens on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from tests.conftest import ROOT

BUCKET = "models"


@dataclass
class ObjectStore:
    """The server's address, and its process to stop or kill."""

    process: subprocess.Popen[str]
    port: int

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which every S3 client finds the server."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def object_store(port: int = 0) -> Iterator[ObjectStore]:
    """A server with one empty bucket; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.object_store", str(port)],
        cwd=ROOT,
        env=os.environ | {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        store = ObjectStore(process, int(process.stdout.readline()))
        httpx.put(f"{store.environment['AWS_ENDPOINT_URL']}/{BUCKET}").raise_for_status()
        yield store
    finally:
        process.kill()
        process.wait()


def main() -> None:
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", int(sys.argv[1]), verbose=False)
    server.start()
    sys.stdout.write(f"{server.get_host_and_port()[1]}\n")
    sys.stdout.flush()
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
