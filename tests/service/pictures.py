"""Image files as bytes, good and bad."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def picture(
    value: int | None = None, size: tuple[int, int] = (40, 36), kind: str = "PNG", seed: int = 0
) -> bytes:
    """A picture of one grey ``value``, or of noise."""
    if value is None:
        shape = (size[1], size[0], 3)
        pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        image = Image.fromarray(pixels)
    else:
        image = Image.new("RGB", size, (value, value, value))
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def huge_png(width: int = 10_000, height: int = 10_000) -> bytes:
    """A PNG of a few hundred bytes whose header promises ``width`` x ``height`` pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


EMPTY = b""
NOT_AN_IMAGE = b"the quick brown fox jumps over the lazy dog" * 10
TRUNCATED = picture(kind="JPEG")[:400]
GIF = picture(kind="GIF")
