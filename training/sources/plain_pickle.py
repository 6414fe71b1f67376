"""Pickles of plain values and numpy arrays, as some data sets come in, without running their code.

A pickle can name any function and have it called. This one is given four, which make arrays and
bytes, and is refused when it asks for another.
"""

from __future__ import annotations

import pickle
from typing import Any, BinaryIO

import numpy as np


def _latin1(text: str, encoding: str) -> bytes:
    """What ``bytes`` are written as by Python 3 in the protocols of Python 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode(encoding)


_NEW_ARRAY: Any = np.empty(0).__reduce__()[0]  # public only in this form
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _NEW_ARRAY,
    ("numpy._core.multiarray", "_reconstruct"): _NEW_ARRAY,
    ("_codecs", "encode"): _latin1,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, and may hold plain values and arrays only"
            ) from None


def load_plain_pickle(file: BinaryIO) -> Any:
    """The value in ``file``; texts written by Python 2 come as ``bytes``.

    Raises:
        ValueError: not a pickle, cut off, or one that asks for code; nothing of it has run.
    """
    try:
        return _PlainUnpickler(file, encoding="bytes").load()
    # Bytes that are no pickle can fail in the unpickler in any of these ways.
    except (
        pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError,
        AttributeError, MemoryError, OverflowError, ImportError,
    ) as error:  # fmt: skip
        raise ValueError(str(error) or type(error).__name__) from error
