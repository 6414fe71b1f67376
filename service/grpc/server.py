"""The gRPC server beside the HTTP server: one event loop, one core, a port of its own."""

from __future__ import annotations

import logging

import grpc

from service.core.serving import ServingCore
from service.grpc.call import Calls
from service.grpc.service import Inference, Methods
from service.key_file import KeyRing
from service.metrics import Metrics
from service.settings import Settings
from service.tracing import RequestSpans

logger = logging.getLogger(__name__)

# Beyond the largest image data: names, parameters, lengths.
_ENVELOPE_BYTES = 64 * 1024
# Beyond the core's drain: answers on their way out.
_GRACE_S = 1.0


class GrpcServer:
    """Started and stopped on the event loop that the core runs on."""

    def __init__(
        self,
        settings: Settings,
        core: ServingCore,
        metrics: Metrics,
        keys: KeyRing | None,
        spans: RequestSpans | None,
        version: str,
    ) -> None:
        self._settings = settings
        inference = Inference(settings, core, metrics, version)
        self._methods = Methods(inference, Calls(core.clock, metrics, keys, spans))
        self._server: grpc.aio.Server | None = None
        self.port = 0  # once started

    async def start(self) -> None:
        """Listen.

        Raises:
            RuntimeError: the port cannot be had.
        """
        settings = self._settings
        limit = settings.max_body_bytes + _ENVELOPE_BYTES
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # another process on this port is a mistake
            ]
        )
        self._server.add_generic_rpc_handlers((self._methods,))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        try:
            self.port = self._server.add_insecure_port(f"{host}:{settings.grpc_port}")
        except RuntimeError:
            raise RuntimeError(
                f"cannot listen on {host}, port {settings.grpc_port} (grpc_port): taken by another "
                "process, or not an address of this machine"
            ) from None
        await self._server.start()
        logger.info("listening", extra={"fields": {"grpc_port": self.port, "host": settings.host}})

    async def stop(self) -> None:
        """Refuse new calls; those in flight have the drain time, which the core bounds."""
        if self._server is not None:
            await self._server.stop(self._settings.drain_timeout_ms / 1000 + _GRACE_S)
