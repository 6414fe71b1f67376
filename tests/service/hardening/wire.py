"""Requests as bytes, and answers read from a socket that may say anything."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PREDICT = "/v1/predict"


@dataclass(frozen=True)
class Answer:
    """What came back; status 0 for a connection that was closed without an answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def request(
    target: str, body: bytes, headers: Mapping[str, str], *, more: bytes = b"", method: str = "POST"
) -> bytes:
    """A request with a right Content-Length; ``more`` are header lines as they are."""
    lines = [f"{method} {target} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n" + more + b"\r\n" + body


def form(*parts: bytes, boundary: bytes = b"x", field: bytes | None = None) -> bytes:
    """A multipart body."""
    found = [*parts, field] if field is not None else parts
    whole = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in found)
    return whole + b"--" + boundary + b"--\r\n"


def exchange(address: tuple[str, int], raw: bytes, timeout_s: float = 60.0) -> Answer:
    """Send ``raw`` on a connection of its own, as far as the server takes it; read one answer."""
    with socket.create_connection(address, timeout=timeout_s) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(raw)  # the server may hang up before the end
        received = bytearray()
        with contextlib.suppress(OSError):  # a time-out is seen as no answer
            while not _is_whole(received) and (more := connection.recv(65536)):
                received += more
    return _parse(_without_continue(bytes(received)))


def _without_continue(received: bytes) -> bytes:
    begin = b"HTTP/1.1 100 "
    return received.partition(b"\r\n\r\n")[2] if received.startswith(begin) else received


def _is_whole(received: bytearray) -> bool:
    head, end, body = _without_continue(bytes(received)).partition(b"\r\n\r\n")
    return bool(end) and len(body) >= int(_headers(head).get("content-length", "0"))


def _parse(received: bytes) -> Answer:
    if not received:
        return Answer(0, {}, b"")
    head, _, body = received.partition(b"\r\n\r\n")
    return Answer(int(head.split(b" ", 2)[1]), _headers(head), body)


def _headers(head: bytes) -> dict[str, str]:
    lines = (line.decode("latin-1").partition(":") for line in head.split(b"\r\n")[1:])
    return {name.lower(): value.strip() for name, _, value in lines}
