"""Pixels less a mean, over a deviation: the data set's, or those of each task's own domain.

Tasks about other kinds of pictures (the Visual Decathlon's ten domains) may each be normalised by
the pictures of its own. This is done to the pixels, in front of the first convolution. Folded into
that convolution's weights, it would be wrong along the image's edges: the zeros that it pads with
stand for the mean of one domain, and for other pixels in another.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.config import ModelConfig
from model.tasks import Normalisation

PIXEL_LEVELS = 256


def domain_tables(config: ModelConfig) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Mean and deviation [domains, 3, 1, 1] in pixel values 0..255, and each task's domain.

    Domain 0 is the data set's, of tasks without a normalisation of their own; tasks with equal
    ones are of one domain.
    """
    spec = config.preprocess
    whole = Normalisation(mean=spec.mean, std=spec.std)
    found = [task.normalisation or whole for task in config.tasks]
    distinct = list(dict.fromkeys([whole, *found]))
    return (
        _table([one.mean for one in distinct]),
        _table([one.std for one in distinct]),
        tuple(distinct.index(one) for one in found),
    )


def normalised(images: Tensor, own: Normalisation) -> Tensor:
    """uint8 [N, H, W, 3] -> float [N, 3, H, W] less the mean, over the deviation."""
    return (images.permute(0, 3, 1, 2) - _table([own.mean])) / _table([own.std])


def pixel_levels(mean: Tensor, std: Tensor) -> Tensor:
    """float32 [domains, 3, 256]: what normalisation makes of every value of a pixel.

    Args:
        mean: [domains, 3, 1, 1], as ``std``.
    """
    grey = torch.arange(PIXEL_LEVELS).to(mean.dtype)
    levels: Tensor = (grey - mean.cpu().flatten(2)) / std.cpu().flatten(2)
    return levels.float().contiguous()


def _table(values: list[tuple[float, float, float]]) -> Tensor:
    return torch.tensor(values)[:, :, None, None] * 255.0
