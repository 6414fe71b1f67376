"""One server process under measurement: start it, wait until it is ready, stop it."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

from benchmarks import processes
from benchmarks.environment import PeerUnavailableError
from benchmarks.peers.base import HOST, Peer, Settings

ROOT = Path(__file__).resolve().parent.parent
STOP_LIMIT_S = 20.0
_POLL_S = 0.05


class Server:
    """A running server. Use :func:`running`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self._process = process
        self.port = port
        self.log = log
        self.ready_after_s = 0.0  # from the start of the process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def memory(self) -> processes.Memory:
        return processes.memory(self.pid)

    def last_lines(self, count: int = 3) -> str:
        """The end of the server's log, for error messages."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return " | ".join(lines[-count:])[-500:]

    def stop(self) -> None:
        """Ends the process and every process that it started."""
        pids = [self.pid, *(pid for pid in processes.tree(self.pid) if pid != self.pid)]
        if self.alive:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_LIMIT_S)
        processes.stop(pids, limit_s=2.0)
        self._process.wait()


@contextmanager
def running(peer: Peer, python: Path, settings: Settings) -> Iterator[Server]:
    """``peer`` serving on the loopback address until the block ends, by SIGTERM too.

    Raises:
        PeerUnavailableError: it ended, or was not ready within its limit.
    """
    folder = Path(settings.folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    peer.prepare(python, settings)
    log = folder / "server.log"
    with log.open("wb") as output, _sigterm_in_order():
        started = time.monotonic()
        process = subprocess.Popen(
            peer.command(python, settings),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            env=_environment(peer, settings),
            start_new_session=True,  # Ctrl-C reaches us alone; we stop it in order
        )
        server = Server(process, settings.port, log)
        try:
            _wait_until_ready(server, peer)
            server.ready_after_s = time.monotonic() - started
            yield server
        finally:
            server.stop()


@contextmanager
def _sigterm_in_order() -> Iterator[None]:
    """SIGTERM ends this process by an exception, so that what it has started is stopped."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def with_free_port(settings: Settings) -> Settings:
    return replace(settings, port=free_port())


def thread_variables(threads: int) -> dict[str, str]:
    """What pins the threads of torch and of the libraries below it."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return dict.fromkeys(names, str(threads))


def _environment(peer: Peer, settings: Settings) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return {
        **inherited,
        **thread_variables(settings.threads),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "DO_NOT_TRACK": "1",
        **settings.environment(),
        **peer.environment(settings),
    }


def _wait_until_ready(server: Server, peer: Peer) -> None:
    deadline = time.monotonic() + peer.start_limit_s
    while time.monotonic() < deadline:
        if not server.alive:
            raise PeerUnavailableError(
                f"ended before it was ready; its log ends: {server.last_lines()}"
            )
        if _status(server.port, peer.ready_path) == 200:
            return
        time.sleep(_POLL_S)
    raise PeerUnavailableError(
        f"not ready within {peer.start_limit_s:.0f} s; its log ends: {server.last_lines()}"
    )


def _status(port: int, path: str) -> int:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
