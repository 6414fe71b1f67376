"""Image files made by hand, so that tests know every pixel and every byte of them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from model.preprocess import Pixels

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encode(image: Image.Image, file_format: str, **options: Any) -> bytes:
    """The bytes of ``image`` as a file."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def noise(width: int, height: int, seed: int = 0) -> Pixels:
    """Random pixels [height, width, 3]."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


def gradient(width: int, height: int) -> Pixels:
    """Smooth pixels [height, width, 3], which JPEG keeps nearly exactly."""
    y, x = np.mgrid[0:height, 0:width]
    planes = (255 * x / width, 255 * y / height, 255 * (x + y) / (width + height))
    return np.stack(planes, axis=2).astype(np.uint8)


def quadrants(size: int = 64) -> Image.Image:
    """Red and green above, blue and white below: tells all eight orientations apart."""
    image = Image.new("RGB", (size, size))
    half = size // 2
    for corner, colour in (
        ((0, 0), RED),
        ((half, 0), GREEN),
        ((0, half), BLUE),
        ((half, half), WHITE),
    ):
        image.paste(colour, (*corner, corner[0] + half, corner[1] + half))
    return image


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """One PNG chunk with its checksum."""
    return (
        struct.pack(">L", len(content))
        + kind
        + content
        + struct.pack(">L", zlib.crc32(kind + content))
    )


def png(
    width: int, height: int, depth: int, colour: int, rows: bytes, before: Sequence[bytes] = ()
) -> bytes:
    """A PNG from its raw scan lines (each begins with its filter byte); ``before`` the pixels."""
    header = struct.pack(">LLBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [
        png_chunk(b"IHDR", header),
        *before,
        png_chunk(b"IDAT", zlib.compress(rows)),
        png_chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def exif_with(orientation: int, *, order: str = "<", kind: int = 3, repeat: int = 1) -> bytes:
    """An EXIF block that holds one entry, the orientation, as field type ``kind``."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    value = struct.pack(order + {1: "B3x", 3: "H2x", 4: "L"}[kind], orientation)
    entry = struct.pack(f"{order}HHL", 0x0112, kind, 1) + value
    return b"Exif\0\0" * repeat + mark + struct.pack(f"{order}LH", 8, 1) + entry + bytes(4)


def jpeg_with_segment(marker: int, content: bytes) -> bytes:
    """A small JPEG with one more segment right behind its first marker."""
    data = encode(quadrants(), "JPEG", quality=95)
    segment = struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content
    return data[:2] + segment + data[2:]
