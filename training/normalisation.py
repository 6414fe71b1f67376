"""Mean and deviation of pixels, measured on the training images (paper, section 4.3): of all of
them, or of each domain's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.config import PreprocessConfig
from model.preprocess import Pixels
from model.tasks import Normalisation, Task
from training.decoding import ImageSet
from training.domains import find_domains

_LEAST_STD = 1 / 255
"""Of a channel that never changes; dividing by 0 would make it infinite."""
_CHUNK_IMAGES = 1024


def measured(spec: PreprocessConfig, pixels: Pixels) -> PreprocessConfig:
    """``spec`` with the mean and std of ``pixels`` [N, H, W, 3], values scaled to 0..1."""
    found = _statistics(pixels, np.arange(len(pixels)))
    return PreprocessConfig.model_validate(spec.model_dump() | found.model_dump())


def measured_by_domain(tasks: Sequence[Task], images: ImageSet) -> tuple[Task, ...]:
    """``tasks`` with the mean and std of their own domains' images."""
    domains = find_domains(images.labels)
    found = [_statistics(images.pixels, domains.images(one)) for one in range(domains.count)]
    return tuple(
        task.model_copy(update={"normalisation": found[domain]})
        for task, domain in zip(tasks, domains.of_task.tolist(), strict=True)
    )


def _statistics(pixels: Pixels, rows: NDArray[np.int64]) -> Normalisation:
    """Of the images ``rows``."""
    counts = np.zeros((3, 256), dtype=np.int64)
    for start in range(0, len(rows), _CHUNK_IMAGES):
        part = pixels[rows[start : start + _CHUNK_IMAGES]].reshape(-1, 3)
        for channel in range(3):
            counts[channel] += np.bincount(part[:, channel], minlength=256)
    values = np.arange(256) / 255
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ values
    deviation = np.sqrt(np.maximum(shares @ values**2 - mean**2, 0))
    std = np.maximum(deviation, _LEAST_STD)
    return Normalisation(mean=mean.round(6).tolist(), std=std.round(6).tolist())
