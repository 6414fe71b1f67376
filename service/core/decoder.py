"""Image decoding, in a bounded pool of threads and never on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import numpy as np

from model.config import PreprocessConfig
from model.errors import ImageError
from model.preprocess import ImageLimits, load_image, load_pixels
from service.core.clock import Clock
from service.core.errors import DeadlineError
from service.core.job import Pixels

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Decoder:
    """Owns the pool for CPU-bound work in front of the queue.

    What waits in the pool is bounded by admission: only admitted requests' images come here.
    """

    def __init__(self, threads: int, limits: ImageLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    async def run(
        self,
        function: Callable[Parameters, Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result:
        """Run ``function`` in the pool."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))

    async def decode(
        self, contents: Sequence[bytes | Pixels], spec: PreprocessConfig, deadline: float
    ) -> list[Pixels | ImageError]:
        """Pixels [H, W, 3] for each file, or pixels of another size, or why there are none.

        Raises:
            DeadlineError: the deadline passed before an image's turn came.
        """
        loop = asyncio.get_running_loop()
        decoding = [
            loop.run_in_executor(self._pool, self._decode, content, spec, deadline)
            for content in contents
        ]
        return await asyncio.gather(*decoding)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _decode(
        self, content: bytes | Pixels, spec: PreprocessConfig, deadline: float
    ) -> Pixels | ImageError:
        if self._clock.now() >= deadline:
            raise DeadlineError("the deadline passed before the image was decoded", stage="decode")
        try:
            if isinstance(content, np.ndarray):  # in memory already: the body's limit bounds it
                return load_pixels(content, spec)
            return load_image(content, spec, self._limits).pixels
        except ImageError as error:
            return error.with_traceback(None)
