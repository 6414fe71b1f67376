"""The server process: uvicorn, one process, with a drain that begins at the signal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from functools import partial
from types import FrameType

import torch
import uvicorn

from model.cpu import CpuBudget, cpu_budget
from service.core.background import background_threads
from service.http.app import create_app
from service.http.connection import Connection
from service.http.services import Services
from service.settings import Settings

logger = logging.getLogger(__name__)

# Beyond the drain itself: answers on their way out.
_GRACE_S = 3
# At most, for requests that their clients sent before they could know of the shutdown.
_LINGER_S = 1.0
_LOOK_S = 0.02
# Longer than the usual load balancer's 60 s, so that it is not the server who closes first.
_KEEP_ALIVE_S = 75


class Server(uvicorn.Server):
    """uvicorn, telling the core of a shutdown before it waits for requests in flight."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services

    @property
    def failed(self) -> bool:
        """The application could not start, or not end well: the log says why."""
        lifespan = getattr(self, "lifespan", None)  # none yet where a signal came first
        return lifespan is not None and bool(lifespan.should_exit)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.started:
            return
        host, port, url = _address(self.servers[0].sockets[0])
        fields = {"host": host, "port": port, "url": url}
        if len(self.servers) > 1:
            fields["admin_url"] = _address(self.servers[1].sockets[0])[2]
        logger.info("listening", extra={"fields": fields})

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Before uvicorn waits, or the queue's tail would be cut off instead of told to go
        # elsewhere.
        self._services.core.begin_drain()
        # In the same step, or clients whose connection was ended would come back to be cut off.
        for server in self.servers:
            server.close()
        # Every answer ends its connection now. uvicorn closes what seems idle at once, although a
        # request may be on its way there.
        until = time.monotonic() + _LINGER_S
        while self.server_state.connections and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
        await super().shutdown(sockets)


def _address(listening: socket.socket) -> tuple[str, int, str]:
    host, port = listening.getsockname()[:2]
    return host, port, f"http://{f'[{host}]' if ':' in host else host}:{port}"


def listen(host: str, port: int, reuse_port: bool = False) -> socket.socket:
    """A listening socket; exits with 1, and says why, if there can be none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server(
            (host, port), family=family, backlog=2048, reuse_port=reuse_port
        )
    except OSError as error:
        logger.error("cannot listen on %s, port %d: %s", host, port, error)
        sys.exit(1)


def set_threads(settings: Settings, cpu: CpuBudget) -> None:
    """Size the engine's thread pools by what the container may use, and say so."""
    threads = settings.threads or cpu.cpus
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)  # one engine thread, one operator at a time
    logger.info(
        "threads",
        extra={
            "fields": {
                "engine": threads,
                "decode": settings.core_options(cpu.cpus).decode_threads,
                "cpus": cpu.cpus,
                "cpus_from": cpu.source,
                "quota": cpu.quota,
            }
        },
    )


def _end_cleanly(_: int, __: FrameType | None) -> None:
    sys.exit(0)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; exits with 1 where the application cannot start."""
    cpu = cpu_budget()
    set_threads(settings, cpu)
    sockets = [listen(settings.host, settings.port, settings.reuse_port)]
    if settings.admin_port is not None:
        sockets.append(listen(settings.host, settings.admin_port))
        settings = settings.model_copy(update={"admin_port": sockets[1].getsockname()[1]})
    app = create_app(settings, cpu=cpu)
    services: Services = app.state.services
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        workers=1,
        http=partial(Connection, metrics=services.metrics),  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(settings.drain_timeout_ms / 1000) + _GRACE_S,
    )
    # uvicorn repeats the signal after a clean shutdown, which is no failure: without this the
    # process would end as if it had been killed.
    signal.signal(signal.SIGTERM, _end_cleanly)
    server = Server(config, services)
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        server.run(sockets)
    _end(1 if server.failed else 0)


def _end(code: int) -> None:
    if background_threads():
        # The interpreter would wait for them, as long as a network disk may hang.
        logger.warning("a load that nobody waits for any more is left")
        logging.shutdown()
        os._exit(code)
    if code:
        sys.exit(code)
