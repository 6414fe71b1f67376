"""Synthetic photographs: JPEG files that cost as much to decode as real ones, from a seed."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

_BLOBS = 8  # edge of the coarse colour grid that is blown up to the picture
_QUALITY = 90


def jpeg(seed: int, width: int, height: int) -> bytes:
    """One picture: smooth colour fields with fine grain, as JPEG of quality 90."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (_BLOBS, _BLOBS, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    grain = generator.normal(0.0, 6.0, (height, width, 3))
    pixels = np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def jpegs(count: int, width: int, height: int, seed: int = 0) -> list[bytes]:
    """``count`` different pictures of one size."""
    return [jpeg(seed * 1_000_003 + index, width, height) for index in range(count)]
