"""Images decoded once, before training, by the very function that the service uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model.config import PreprocessConfig
from model.errors import ImageError
from model.preprocess import ImageLimits, Pixels, load_image, load_pixels
from training.pixel_cache import DecodedChunk, Failure, PixelCache
from training.sources import Dataset, Images, Labels, Split

IN_MEMORY_BYTES = 512 * 2**20
"""Splits that decode to more than this are mapped from a cache file."""
_CHUNK_IMAGES = 256
# Generous: these are files the person chose, not uploads.
_LIMITS = ImageLimits(max_bytes=2**31, max_pixels=400_000_000)


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be decoded."""

    name: str
    reason: str


@dataclass(frozen=True)
class ImageSet:
    """The readable images of one split, with their labels."""

    pixels: Pixels  # [N, H, W, 3], RGB; may be a read-only map of a file
    labels: Labels  # [N, T]
    unreadable: tuple[Unreadable, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class Decoder:
    """How and where images are decoded."""

    cache: PixelCache = field(default_factory=PixelCache)
    workers: int = 2
    in_memory_bytes: int = IN_MEMORY_BYTES

    def decode(
        self,
        dataset: Dataset,
        split: Split,
        spec: PreprocessConfig,
        advance: Callable[[int], None] = lambda _: None,
    ) -> ImageSet:
        """Decode one split; images that cannot be read are left out and reported.

        Args:
            advance: told how many more images are done.
        """
        indices = dataset.indices(split)
        image_shape = (spec.height, spec.width, 3)
        chunks = self._chunks(dataset.images, indices, spec, advance)
        if len(indices) * spec.height * spec.width * 3 > self.in_memory_bytes:
            key = self.cache.key(dataset.digest, indices, spec)
            pixels, failures = self.cache.get_or_write(key, image_shape, chunks)
        else:
            pixels, failures = _in_memory(len(indices), image_shape, chunks)
        rows = np.delete(indices, [failure.position for failure in failures])
        unreadable = tuple(
            Unreadable(dataset.images.name(int(indices[failure.position])), failure.reason)
            for failure in failures
        )
        return ImageSet(pixels, dataset.labels[rows], unreadable)

    def _chunks(
        self,
        images: Images,
        indices: NDArray[np.int64],
        spec: PreprocessConfig,
        advance: Callable[[int], None],
    ) -> Iterator[DecodedChunk]:
        def decode(job: tuple[int, int]) -> Pixels | Failure:
            position, index = job
            return _decode_one(images, index, spec, position)

        with ThreadPoolExecutor(
            self.workers
        ) as pool:  # Pillow decodes outside the interpreter lock
            for start in range(0, len(indices), _CHUNK_IMAGES):
                part = indices[start : start + _CHUNK_IMAGES].tolist()
                results = list(pool.map(decode, enumerate(part, start)))
                advance(len(part))
                yield DecodedChunk(
                    [result for result in results if not isinstance(result, Failure)],
                    [result for result in results if isinstance(result, Failure)],
                )


def _decode_one(
    images: Images, index: int, spec: PreprocessConfig, position: int
) -> Pixels | Failure:
    """Pixels [H, W, 3], or why there are none."""
    try:
        data = images.read(index)
        if isinstance(data, bytes):
            return load_image(data, spec, _LIMITS).pixels
        return load_pixels(data, spec)
    except ImageError as error:
        return Failure(position, str(error))
    except OSError as error:  # a server away, a permission: not the file's contents
        return Failure(position, str(error), retry=True)


def _in_memory(
    count: int, image_shape: tuple[int, int, int], chunks: Iterator[DecodedChunk]
) -> tuple[Pixels, list[Failure]]:
    pixels = np.empty((count, *image_shape), dtype=np.uint8)
    failures: list[Failure] = []
    done = 0
    for chunk in chunks:
        for image in chunk.images:
            pixels[done] = image
            done += 1
        failures += chunk.failures
    return pixels[:done], failures
