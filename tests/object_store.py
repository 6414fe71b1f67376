"""An S3-compatible server on loopback, in a process of its own: it keeps all in memory.

Run as ``python -m tests.object_store PORT``; prints the port it listens on.
"""

from __future__ import annotations

import os
import subprocess
import sys
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
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()  # connections to a server of before
    command = [sys.executable, "-m", "tests.object_store", str(port)]
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | keys,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            store = ObjectStore(process, int(process.stdout.readline()))
            address = store.environment["AWS_ENDPOINT_URL"]
            httpx.put(f"{address}/{BUCKET}", timeout=60).raise_for_status()
            yield store
        finally:
            process.kill()


def main() -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app = DomainDispatcherApplication(create_backend_app)
    # One request at a time: moto's "only if it is not there" is not atomic between threads.
    server = make_server("127.0.0.1", int(sys.argv[1]), app, threaded=False)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
