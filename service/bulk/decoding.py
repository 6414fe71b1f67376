"""Images read and decoded ahead of the engine, in order, by a bounded pool of threads.

Pillow decodes outside the interpreter's lock, and the engine computes outside it too: while one
batch runs, the images of the next ones are made ready. At most ``ahead`` images wait decoded. The
input is walked by a thread of its own: the next bytes of a shard are fetched meanwhile as well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

from model.config import PreprocessConfig
from model.errors import ImageError
from model.preprocess import ImageLimits, load_image
from service.bulk.inputs import Part, Place, Source, sources
from service.core.job import Pixels


@dataclass(frozen=True)
class DecodedImage:
    """Pixels [H, W, 3], or why there are none."""

    name: str
    pixels: Pixels | ImageError


@dataclass(frozen=True)
class Batch:
    """Consecutive images of one part."""

    part: Part
    images: Sequence[DecodedImage]
    last: bool
    """Of its part."""


_Listed: TypeAlias = tuple[Part, Future[DecodedImage] | None]
"""An image being decoded; None behind a part's last."""


class BatchReader:
    """Decoded batches of part after part, decoded across the borders between parts."""

    def __init__(
        self, place: Place, spec: PreprocessConfig, limits: ImageLimits, threads: int, ahead: int
    ) -> None:
        self._place, self._spec, self._limits = place, spec, limits
        self._ahead = ahead
        self._decoders = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._walker = ThreadPoolExecutor(1, thread_name_prefix="walk")

    def close(self) -> None:
        for pool in (self._walker, self._decoders):
            pool.shutdown(wait=True, cancel_futures=True)

    def batches(self, parts: Iterable[Part], size: int) -> Iterator[Batch]:
        """Batches of ``size`` images; the last one of a part may be smaller, or empty.

        Raises:
            BulkError: the images cannot be read now; no fault of theirs.
        """
        images: list[DecodedImage] = []
        for part, waiting in self._ahead_of(self._listed(parts)):
            if waiting is None:
                yield Batch(part, images, last=True)
                images = []
                continue
            if len(images) == size:
                yield Batch(part, images, last=False)
                images = []
            images.append(waiting.result())

    def _ahead_of(self, listed: Iterator[_Listed]) -> Iterator[_Listed]:
        """``listed``, taken ``ahead`` of its reader by the walking thread."""
        waiting: deque[Future[_Listed | None]] = deque()
        while True:
            while len(waiting) <= self._ahead:
                waiting.append(self._walker.submit(next, listed, None))
            found = waiting.popleft().result()
            if found is None:
                return
            yield found

    def _listed(self, parts: Iterable[Part]) -> Iterator[_Listed]:
        """Every image, handed to the decoders as it is found. Walking thread only."""
        for part in parts:
            for source in sources(self._place, part, self._limits):
                yield part, self._decoders.submit(self._decode, source)
            yield part, None

    def _decode(self, source: Source) -> DecodedImage:
        try:
            data = source.read()
            return DecodedImage(source.name, load_image(data, self._spec, self._limits).pixels)
        except ImageError as error:
            return DecodedImage(source.name, error.with_traceback(None))
