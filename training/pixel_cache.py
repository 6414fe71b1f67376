"""Decoded images on disk, mapped into memory and found again by later runs.

One entry is two files: ``KEY.rgb``, the images' bytes end to end, and ``KEY.json``, their shape and
what could not be decoded. The second is written last, so an entry without it was never finished.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.config import PreprocessConfig
from model.preprocess import Pixels


@dataclass(frozen=True)
class Failure:
    """An image that could not be decoded."""

    position: int
    """Within the images asked for."""
    reason: str
    retry: bool = False
    """The file could not be read at all, which may pass: a later run tries again."""


@dataclass(frozen=True)
class DecodedChunk:
    """Some consecutive images: those that could be decoded, and those that could not."""

    images: Sequence[Pixels]  # each [H, W, 3]
    failures: Sequence[Failure]


def default_folder() -> Path:
    """``$XDG_CACHE_HOME/taskroute``, or ``~/.cache/taskroute``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "taskroute"


@dataclass(frozen=True)
class PixelCache:
    """A folder of decoded image sets."""

    folder: Path = field(default_factory=default_folder)

    def key(self, digest: str, indices: NDArray[np.int64], spec: PreprocessConfig) -> str:
        """Equal for the same images of the same data under the same preprocessing."""
        text = f"{digest} {spec.id} {hashlib.sha256(indices.tobytes()).hexdigest()}"
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def get_or_write(
        self, key: str, image_shape: tuple[int, int, int], chunks: Iterable[DecodedChunk]
    ) -> tuple[Pixels, list[Failure]]:
        """A read-only map [N, H, W, 3] of the entry, written from ``chunks`` if it is not there."""
        pixels, about = self.folder / f"{key}.rgb", self.folder / f"{key}.json"
        images, failures = _read(about) if about.is_file() else (0, [])
        if not about.is_file() or any(failure.retry for failure in failures):
            self.folder.mkdir(parents=True, exist_ok=True)
            about.unlink(missing_ok=True)  # never beside pixels that it does not describe
            _write(pixels, about, chunks)
            images, failures = _read(about)
        if not images:  # an empty file cannot be mapped
            return np.empty((0, *image_shape), dtype=np.uint8), failures
        shape = (images, *image_shape)
        return np.memmap(pixels, dtype=np.uint8, mode="r", shape=shape), failures


def _read(about: Path) -> tuple[int, list[Failure]]:
    """Number of images in an entry, and what could not be decoded."""
    entry: dict[str, Any] = json.loads(about.read_text(encoding="utf-8"))
    return entry["images"], [Failure(**failure) for failure in entry["failures"]]


def _write(pixels: Path, about: Path, chunks: Iterable[DecodedChunk]) -> None:
    # Named by process, so that two runs that decode the same data do not write into one file.
    staging = pixels.with_suffix(f".{os.getpid()}.part")
    images, failures = 0, []
    try:
        with staging.open("wb") as file:
            for chunk in chunks:
                for image in chunk.images:
                    file.write(image.tobytes())
                images += len(chunk.images)
                failures += [asdict(failure) for failure in chunk.failures]
        staging.replace(pixels)
    finally:
        staging.unlink(missing_ok=True)
    staging.write_text(json.dumps({"images": images, "failures": failures}), encoding="utf-8")
    staging.replace(about)
