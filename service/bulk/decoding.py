"""Images read and decoded ahead of the engine, in order, by a bounded pool of threads.

Pillow decodes outside the interpreter's lock, and the engine computes outside it too: while one
batch runs, the images of the next ones are made ready. At most ``ahead`` images wait decoded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

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


class BatchReader:
    """Decoded batches of part after part, decoded across the borders between parts."""

    def __init__(
        self, place: Place, spec: PreprocessConfig, limits: ImageLimits, threads: int, ahead: int
    ) -> None:
        self._place, self._spec, self._limits = place, spec, limits
        self._ahead = ahead
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def batches(self, parts: Iterable[Part], size: int) -> Iterator[Batch]:
        """Batches of ``size`` images; the last one of a part may be smaller, or empty.

        Raises:
            OSError: the images cannot be read now; no fault of theirs.
        """
        images: list[DecodedImage] = []
        for part, waiting in self._submitted(parts):
            if waiting is None:
                yield Batch(part, images, last=True)
                images = []
                continue
            if len(images) == size:
                yield Batch(part, images, last=False)
                images = []
            images.append(waiting.result())

    def _submitted(
        self, parts: Iterable[Part]
    ) -> Iterator[tuple[Part, Future[DecodedImage] | None]]:
        """Images being decoded, at most ``ahead`` of them at once; None behind a part's last."""
        waiting: deque[tuple[Part, Future[DecodedImage] | None]] = deque()
        for part in parts:
            for source in sources(self._place, part):
                waiting.append((part, self._pool.submit(self._decode, source)))
                while len(waiting) > self._ahead:
                    yield waiting.popleft()
            waiting.append((part, None))
        yield from waiting

    def _decode(self, source: Source) -> DecodedImage:
        try:
            data = source.read()
            return DecodedImage(source.name, load_image(data, self._spec, self._limits).pixels)
        except ImageError as error:
            return DecodedImage(source.name, error.with_traceback(None))
