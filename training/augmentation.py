"""Random changes to a batch of training images, on the device, before normalisation.

What is drawn comes from a generator on the CPU, so that a step is the same on every device. A
change that is switched off draws nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.config import TrainSettings


@dataclass(frozen=True)
class Part:
    """Which images of a batch are at hand: ``rows`` of the ``whole``."""

    rows: slice
    whole: int


def augment(
    images: Tensor, settings: TrainSettings, generator: torch.Generator, part: Part | None = None
) -> Tensor:
    """Every change that ``settings`` switch on; uint8 [N, H, W, 3] to the same.

    Args:
        part: of a batch, where ``images`` are not all of it: they are changed as in the whole.
    """
    if settings.flip:
        images = random_flip(images, generator, part)
    if settings.shift:
        images = random_shift(images, settings.shift, generator, part)
    if settings.colour_jitter:
        images = random_colour(images, settings.colour_jitter, generator, part)
    return images


def random_flip(images: Tensor, generator: torch.Generator, part: Part | None = None) -> Tensor:
    """Mirror each image left to right with probability one half; uint8 [N, H, W, 3]."""
    part = part or _all_of(images)
    chosen = torch.rand(part.whole, generator=generator)[part.rows] < 0.5
    return torch.where(chosen.to(images.device)[:, None, None, None], images.flip(2), images)


def random_shift(
    images: Tensor, most: int, generator: torch.Generator, part: Part | None = None
) -> Tensor:
    """Move each image by up to ``most`` pixels both ways: padding by its edge, then a random crop.

    Args:
        images: [N, H, W, 3], of any type.
    """
    count, height, width = images.shape[:3]
    part = part or _all_of(images)
    offsets = torch.randint(-most, most + 1, (2, part.whole, 1), generator=generator)
    offsets = offsets[:, part.rows]
    # A pixel from beyond the edge is the edge's: the padding is never built.
    rows = (torch.arange(height) + offsets[0]).clamp(0, height - 1).to(images.device)  # [N, H]
    columns = (torch.arange(width) + offsets[1]).clamp(0, width - 1).to(images.device)  # [N, W]
    image = torch.arange(count, device=images.device)[:, None, None]
    return images[image, rows[:, :, None], columns[:, None, :]]


def random_colour(
    images: Tensor, strength: float, generator: torch.Generator, part: Part | None = None
) -> Tensor:
    """Brightness and contrast of each image times factors from 1 - strength to 1 + strength.

    Args:
        images: uint8 [N, H, W, 3].
        strength: 0 to 1. Contrast is around the image's own mean.
    """
    part = part or _all_of(images)
    drawn = torch.rand(2, part.whole, generator=generator)[:, part.rows]
    factors = 1 + strength * (2 * drawn - 1)
    brightness, contrast = factors.to(images.device)[:, :, None, None, None]
    values = images.float() * brightness
    mean = values.mean(dim=(1, 2, 3), keepdim=True)
    changed: Tensor = (values - mean) * contrast + mean
    return changed.round().clamp(0, 255).to(images.dtype)


def _all_of(images: Tensor) -> Part:
    return Part(slice(None), len(images))
