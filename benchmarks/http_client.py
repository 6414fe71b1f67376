"""A lean HTTP/1.1 client for load generation.

The generator shares the cores with the server it measures, so its own cost is part of every
figure. This client writes prepared bytes and parses no more of an answer than its status, its
length and ``Retry-After``; ``python -m benchmarks.client_cost`` holds it against httpx.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 2**20


class ProtocolError(Exception):
    """The peer closed early or answered something that is not HTTP/1.1 as we speak it."""


@dataclass(frozen=True, slots=True)
class Response:
    """One answer; header names are not kept, apart from those that measurements read."""

    status: int
    body: bytes
    retry_after: str | None = None


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._waiting: asyncio.Future[Response] | None = None
        self._transport: asyncio.Transport | None = None
        self.usable = False

    @classmethod
    async def open(cls, host: str, port: int) -> Connection:
        """Raises OSError if nobody listens."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, host, port)
        return connection

    def send(self, request: bytes) -> asyncio.Future[Response]:
        """Send a whole request; the future fails with ProtocolError if the answer does not come."""
        if self._transport is None or not self.usable or self._waiting is not None:
            raise ProtocolError("the connection is closed or busy")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._waiting

    def close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.usable = True

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            parsed = parse(self._buffer)
        except (ProtocolError, ValueError) as error:
            self._finish(ProtocolError(str(error)))
            self.close()
            return
        if parsed is None:
            return
        response, used, keep = parsed
        del self._buffer[:used]
        self.usable = keep
        self._finish(response)
        if not keep:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._finish(
            ProtocolError(f"connection closed before the answer: {exc or 'by the server'}")
        )

    def _finish(self, result: Response | ProtocolError) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is None or waiting.done():
            return
        if isinstance(result, Response):
            waiting.set_result(result)
        else:
            waiting.set_exception(result)


def parse(buffer: bytearray) -> tuple[Response, int, bool] | None:
    """The first whole response in ``buffer``, the bytes it takes, whether to keep the connection.

    None: more bytes are needed.
    """
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > MAX_HEAD_BYTES:
            raise ProtocolError(f"no end of headers within {MAX_HEAD_BYTES} bytes")
        return None
    status_line, _, rest = bytes(buffer[:end]).partition(b"\r\n")
    if not status_line.startswith(b"HTTP/1.1 "):
        raise ProtocolError(f"not an HTTP/1.1 answer: {status_line[:40]!r}")
    status = int(status_line[9:12])
    headers = _headers(rest)
    start = end + 4
    if b"chunked" in headers.get(b"transfer-encoding", b""):
        found = _chunked(buffer, start)
    else:
        length = int(headers.get(b"content-length", b"0"))
        found = (bytes(buffer[start : start + length]), start + length)
        if len(buffer) < start + length:
            found = None
    if found is None:
        if len(buffer) > MAX_BODY_BYTES:
            raise ProtocolError(f"the answer has more than {MAX_BODY_BYTES} bytes")
        return None
    retry_after = headers.get(b"retry-after")
    keep = headers.get(b"connection", b"").lower() != b"close"
    response = Response(status, found[0], retry_after.decode() if retry_after else None)
    return response, found[1], keep


_READ_HEADERS = {b"content-length", b"transfer-encoding", b"connection", b"retry-after"}


def _headers(block: bytes) -> dict[bytes, bytes]:
    found = {}
    for line in block.split(b"\r\n"):
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in _READ_HEADERS:
            found[name] = value.strip()
    return found


def _chunked(buffer: bytearray, start: int) -> tuple[bytes, int] | None:
    """The body of a chunked answer and the position behind it."""
    parts: list[bytes] = []
    while True:
        line_end = buffer.find(b"\r\n", start)
        if line_end < 0:
            return None
        size = int(bytes(buffer[start:line_end]).partition(b";")[0], 16)
        start = line_end + 2
        if len(buffer) < start + size + 2:
            return None
        if size == 0:
            return b"".join(parts), start + 2
        parts.append(bytes(buffer[start : start + size]))
        start += size + 2
