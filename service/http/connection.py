"""The socket's side of HTTP: how much is read at a time, and what does not get to the application.

uvicorn reads ahead, a quarter of a megabyte at a time, before anybody has looked at the headers. Of
a request that is refused by its headers, no more than :data:`HEAD_BYTES` are read here. Requests
that do not parse, whose headers never end or do not come, are answered here too, in the one shape
of errors.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.core.errors import (
    HeadTimeoutError,
    HeadTooLargeError,
    MalformedRequestError,
    RequestError,
)
from service.http.errors import error_response
from service.http.record import ACCESS_LOGGER, UNMATCHED
from service.metrics import Metrics

HEAD_BYTES = 32 * 1024  # also the most that a request line and headers may have
_BODY_BYTES = 256 * 1024
_HEAD_S = 60.0

# One for all connections: the event loop fills it and hands it over in one step, and what came is
# copied out at once. One for each would hold a quarter of a megabyte for every idle client.
_BUFFER = memoryview(bytearray(_BODY_BYTES))

_access = logging.getLogger(ACCESS_LOGGER)


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol, whose own refusal has the one shape of errors."""

    def __init__(self, *args: Any, metrics: Metrics, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._metrics = metrics
        self.in_head = False  # a request has begun, its headers are not complete

    def on_message_begin(self) -> None:
        self.in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self.in_head = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self.refuse(
            MalformedRequestError("the request is not HTTP/1.1 as RFC 9112 has it: not parsed")
        )

    def refuse(self, error: RequestError) -> None:
        """Answer ``error`` and hang up: where this request ends, nobody can tell."""
        if self.transport.is_closing():
            return
        if self.cycle is not None and self.cycle.response_started and not self._answered():
            self.transport.close()  # an answer is on its way: nothing may be put into it
            return
        request_id = f"{random.getrandbits(128):032x}"
        response = error_response(error, request_id)
        lines = [STATUS_LINE[response.status_code]]
        headers = [(b"x-request-id", request_id.encode()), (b"connection", b"close")]
        for name, value in [*response.raw_headers, *headers]:
            lines += [name, b": ", value, b"\r\n"]
        self.transport.write(b"".join([*lines, b"\r\n", bytes(response.body)]))
        self.transport.close()
        self._metrics.http_request(UNMATCHED, "other", response.status_code, 0.0)
        fields = {"request_id": request_id, "status": response.status_code, "code": error.code}
        _access.info("request", extra={"fields": fields})

    def _answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete


class Connection(asyncio.BufferedProtocol):
    """Feeds the protocol by reads whose size is chosen here."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._http = HttpProtocol(*args, **kwargs)
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def get_buffer(self, sizehint: int) -> memoryview:
        return _BUFFER if self._in_body() else _BUFFER[:HEAD_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        in_body = self._in_body()
        self._http.data_received(bytes(_BUFFER[:nbytes]))
        if not in_body and self._in_body():
            self._http.flow.pause_reading()  # until the application awaits receive()
        self._watch_head(nbytes)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._http.connection_made(transport)  # type: ignore[arg-type]
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._http.connection_lost(exc)

    def eof_received(self) -> None:
        self._http.eof_received()

    def pause_writing(self) -> None:
        self._http.pause_writing()

    def resume_writing(self) -> None:
        self._http.resume_writing()

    def _in_body(self) -> bool:
        cycle = self._http.cycle
        return cycle is not None and cycle.more_body and not cycle.response_complete

    def _watch_head(self, nbytes: int) -> None:
        if not self._http.in_head:
            self._head_bytes = 0
            self._stop_timer()
            return
        self._start_timer()
        self._head_bytes += nbytes
        if self._head_bytes > HEAD_BYTES:
            self._http.refuse(
                HeadTooLargeError(
                    f"the request line and the headers have {self._head_bytes} bytes or more; the "
                    f"limit is {HEAD_BYTES}"
                )
            )

    def _start_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self._http.loop.call_later(_HEAD_S, self._head_is_late)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        if self._http.in_head:
            self._http.refuse(
                HeadTimeoutError(f"the headers did not come to an end within {_HEAD_S:.0f} s")
            )
        else:  # not a byte came
            self._http.transport.close()
