"""The lean client reads whatever framing a server chooses, however it is cut into packets."""

from __future__ import annotations

import pytest

from benchmarks.http_client import ProtocolError, parse

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n"
)
SHED = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize("wire", [PLAIN, CHUNKED])
def test_an_answer_is_read_once_its_last_byte_is_there(wire: bytes) -> None:
    for length in range(len(wire)):
        assert parse(bytearray(wire[:length])) is None
    parsed = parse(bytearray(wire + b"HTTP/1.1 next"))
    assert parsed is not None
    response, used, keep = parsed
    assert (response.status, response.body, used, keep) == (200, b"hello", len(wire), True)


def test_retry_after_is_kept() -> None:
    parsed = parse(bytearray(SHED))
    assert parsed is not None
    assert (parsed[0].status, parsed[0].retry_after) == (429, "7")


def test_connection_close_is_honoured() -> None:
    parsed = parse(bytearray(PLAIN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")))
    assert parsed is not None
    assert parsed[2] is False


@pytest.mark.parametrize("wire", [b"SSH-2.0-x\r\n\r\n", b"x" * 70_000])
def test_what_is_not_http_is_refused(wire: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse(bytearray(wire))
