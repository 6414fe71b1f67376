"""The three ways images lie on disk: raw arrays, JPEG bytes end to end, and files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.sources.base import Pixels


@dataclass(frozen=True)
class ArrayImages:
    """Raw pixels of equal size."""

    pixels: Pixels  # [N, h, w] or [N, h, w, 3]

    def __len__(self) -> int:
        return len(self.pixels)

    def name(self, index: int) -> str:
        return f"#{index}"

    def read(self, index: int) -> Pixels:
        image: Pixels = self.pixels[index]
        return image


@dataclass(frozen=True)
class PackedImages:
    """Encoded images end to end in one byte array."""

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]  # [N + 1]
    names: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def name(self, index: int) -> str:
        return f"#{index}" if self.names is None else str(self.names[index])

    def read(self, index: int) -> bytes:
        return self.data[self.offsets[index] : self.offsets[index + 1]].tobytes()


@dataclass(frozen=True)
class FileImages:
    """One file per image; names are paths below one folder, as the data set wrote them."""

    folder: Path
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]

    def read(self, index: int) -> bytes:
        return (self.folder / self.names[index]).read_bytes()

    def paths(self) -> Iterator[Path]:
        """Made as they are asked for: a million of them would not be small."""
        return (self.folder / name for name in self.names)
