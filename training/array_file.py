"""Arrays that are made once, kept on disk, and mapped into memory by later runs.

One entry is two files: ``KEY.KIND``, the array's bytes, and ``KEY.json``, which says what is in it.
The second is written last, so an entry without it was never finished.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from training.errors import DataError

About = dict[str, Any]


@dataclass(frozen=True)
class ArrayFile:
    """One entry of a folder."""

    folder: Path
    key: str
    """Equal for equal contents: nobody looks whether two writers of an entry agree."""
    kind: str
    """Suffix of the array's file."""
    dtype: DTypeLike

    def about(self) -> About | None:
        """What was said of the entry when it was written; None where it cannot be read."""
        try:
            about: About = json.loads(self._about.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return about

    def holds(self, shape: tuple[int, ...]) -> bool:
        """Whether the array's file is there and of the size of such an array."""
        size = math.prod(shape) * np.dtype(self.dtype).itemsize
        return self._values.is_file() and self._values.stat().st_size == size

    def mapped(self, shape: tuple[int, ...]) -> NDArray[Any]:
        """The array, read-only."""
        if not math.prod(shape):  # an empty file cannot be mapped
            return np.empty(shape, self.dtype)
        return np.memmap(self._values, dtype=self.dtype, mode="r", shape=shape)

    def write(self, blocks: Iterable[NDArray[Any]], about: Callable[[], About]) -> About:
        """Whole or not at all.

        Args:
            blocks: the array, piece by piece.
            about: what to say of it, called when all of them are written.

        Returns:
            What ``about`` gave.

        Raises:
            DataError: the folder cannot be written, or there is no room in it.
        """
        # Named by process, so that two runs that make the same entry do not write into one file.
        staging = self._values.with_suffix(f".{os.getpid()}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._about.unlink(missing_ok=True)  # never beside an array that it does not describe
            try:
                with staging.open("wb") as file:
                    for block in blocks:
                        file.write(np.ascontiguousarray(block).data)
                staging.replace(self._values)
                said = about()
                staging.write_text(json.dumps(said), encoding="utf-8")
                staging.replace(self._about)
            finally:
                staging.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(
                f"{self.folder}: cannot be written: {error.strerror or error}; make room there, or "
                "keep decoded images and features elsewhere (--cache-dir, of add-task --work-dir, "
                "or XDG_CACHE_HOME)",
                path=str(self.folder),
            ) from error
        return said

    @property
    def _values(self) -> Path:
        return self.folder / f"{self.key}.{self.kind}"

    @property
    def _about(self) -> Path:
        return self.folder / f"{self.key}.json"
