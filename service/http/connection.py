"""Reads of the socket: small ones until the application asks for a body.

uvicorn reads ahead, a quarter of a megabyte at a time, before anybody has looked at the headers. Of
a request that is refused by its headers, no more than :data:`HEADERS_BYTES` are read here.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADERS_BYTES = 32 * 1024
_BODY_BYTES = 256 * 1024

# One for all connections: the event loop fills it and hands it over in one step, and what came is
# copied out at once. One for each would hold a quarter of a megabyte for every idle client.
_BUFFER = memoryview(bytearray(_BODY_BYTES))


class Connection(asyncio.BufferedProtocol):
    """uvicorn's protocol, fed by reads whose size is chosen here."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._http = HttpToolsProtocol(*args, **kwargs)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _BUFFER if self._in_body() else _BUFFER[:HEADERS_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        in_body = self._in_body()
        self._http.data_received(bytes(_BUFFER[:nbytes]))
        if not in_body and self._in_body():
            self._http.flow.pause_reading()  # until the application awaits receive()

    def _in_body(self) -> bool:
        cycle = self._http.cycle
        return cycle is not None and cycle.more_body and not cycle.response_complete

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._http.connection_made(transport)  # type: ignore[arg-type]

    def connection_lost(self, exc: Exception | None) -> None:
        self._http.connection_lost(exc)

    def eof_received(self) -> None:
        self._http.eof_received()

    def pause_writing(self) -> None:
        self._http.pause_writing()

    def resume_writing(self) -> None:
        self._http.resume_writing()
