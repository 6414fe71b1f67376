"""Decoded images on disk, mapped into memory and found again by later runs.

An entry (:mod:`training.array_file`) has the images' bytes end to end, and beside them their number
and what could not be decoded.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.config import PreprocessConfig
from model.preprocess import Pixels
from training.array_file import About, ArrayFile


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
        """A read-only map [N, H, W, 3] of the entry, written from ``chunks`` if it is not there.

        Raises:
            DataError: the folder cannot be written.
        """
        entry = ArrayFile(self.folder, key, "rgb", np.uint8)
        about = entry.about()
        if about is None or not _usable(entry, about, image_shape):
            about = _write(entry, chunks)
        failures = [Failure(**failure) for failure in about["failures"]]
        return entry.mapped((about["images"], *image_shape)), failures


def _usable(entry: ArrayFile, about: About, image_shape: tuple[int, int, int]) -> bool:
    retry = any(failure.get("retry") for failure in about["failures"])
    return not retry and entry.holds((about["images"], *image_shape))


def _write(entry: ArrayFile, chunks: Iterable[DecodedChunk]) -> About:
    images = 0
    failures: list[Failure] = []

    def blocks() -> Iterator[Pixels]:
        nonlocal images
        for chunk in chunks:
            yield from chunk.images
            images += len(chunk.images)
            failures.extend(chunk.failures)

    return entry.write(
        blocks(), lambda: {"images": images, "failures": list(map(asdict, failures))}
    )
