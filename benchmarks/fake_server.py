"""An HTTP server that does nothing but answer: to measure and to test the load generator.

``python -m benchmarks.fake_server PORT`` runs it on the loopback address until it is stopped.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from benchmarks.load import HOST

Answer = tuple[int, bytes]  # status, JSON body
Behaviour = Callable[[bytes], Answer]  # from a request's body

_PREDICTION = (
    b'{"task":"task-%03d","label":"no","probability":0.125,"threshold":0.5,"calibrated":true}'
)
FORTY_PREDICTIONS = b'{"predictions":[' + b",".join(_PREDICTION % i for i in range(40)) + b"]}"


class _Connection(asyncio.Protocol):
    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or self._transport is None:
            return
        head = bytes(self._buffer[:end]).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or b"0")
        if len(self._buffer) < end + 4 + length:
            return
        body = bytes(self._buffer[end + 4 : end + 4 + length])
        del self._buffer[: end + 4 + length]
        status, answer = self._behaviour(body)
        extra = b"Retry-After: 1\r\n" if status == 429 else b""
        self._transport.write(
            b"HTTP/1.1 %d Fake\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s"
            % (status, extra, len(answer), answer)
        )


async def start(port: int = 0, behaviour: Behaviour | None = None) -> asyncio.Server:
    """A listening server; port 0 takes a free one."""
    chosen = behaviour or (lambda body: (200, FORTY_PREDICTIONS))
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: _Connection(chosen), HOST, port)


def port_of(server: asyncio.Server) -> int:
    """The port that ``server`` listens on."""
    port: int = server.sockets[0].getsockname()[1]
    return port


async def _serve(port: int) -> None:
    server = await start(port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
