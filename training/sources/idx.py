"""idx files, the format of MNIST and its kin: a header of dimensions, then bytes."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.errors import DataError

_UNSIGNED_BYTES = 8


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array in an idx file of unsigned bytes, gzip-compressed where its name ends in ``.gz``.

    Raises:
        DataError: unreadable, of another type or number of dimensions, cut off or too long.
    """
    try:
        data = path.read_bytes()
        content = gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise _error(path, f"cannot be read: {error}; download it again") from error
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, _UNSIGNED_BYTES, dimensions)):
        raise _error(
            path, f"not an idx file of {dimensions}-dimensional unsigned bytes: {content[:4]!r}"
        )
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) - header != math.prod(shape):
        raise _error(
            path,
            f"its header promises {' x '.join(map(str, shape))} bytes, {len(content) - header} "
            "follow; download it again",
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _error(path: Path, problem: str) -> DataError:
    return DataError(f"{path}: {problem}", path=str(path))
