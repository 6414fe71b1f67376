"""The data set's mean and deviation, measured on the training images (paper, section 4.3)."""

from __future__ import annotations

import numpy as np

from model.config import PreprocessConfig
from model.preprocess import Pixels

_LEAST_STD = 1 / 255
"""Of a channel that never changes; dividing by 0 would make it infinite."""
_CHUNK_IMAGES = 1024


def measured(spec: PreprocessConfig, pixels: Pixels) -> PreprocessConfig:
    """``spec`` with the mean and std of ``pixels`` [N, H, W, 3], values scaled to 0..1."""
    counts = np.zeros((3, 256), dtype=np.int64)
    for start in range(0, len(pixels), _CHUNK_IMAGES):
        part = pixels[start : start + _CHUNK_IMAGES].reshape(-1, 3)
        for channel in range(3):
            counts[channel] += np.bincount(part[:, channel], minlength=256)
    values = np.arange(256) / 255
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ values
    deviation = np.sqrt(np.maximum(shares @ values**2 - mean**2, 0))
    std = np.maximum(deviation, _LEAST_STD)
    return PreprocessConfig.model_validate(
        spec.model_dump() | {"mean": mean.round(6).tolist(), "std": std.round(6).tolist()}
    )
