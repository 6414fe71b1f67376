"""Flips."""

from __future__ import annotations

import torch

from training.augmentation import random_flip


def test_about_half_are_mirrored_and_the_others_untouched() -> None:
    images = torch.randint(0, 256, (400, 6, 5, 3), dtype=torch.uint8)
    out = random_flip(images, torch.Generator().manual_seed(0))
    same = (out == images).flatten(1).all(dim=1)
    mirrored = (out == images.flip(2)).flatten(1).all(dim=1)
    assert (same | mirrored).all()
    assert 150 < int(mirrored.sum()) < 250
    assert out.dtype == torch.uint8


def test_the_same_generator_mirrors_the_same_images() -> None:
    images = torch.randint(0, 256, (50, 4, 4, 3), dtype=torch.uint8)
    one, other = (random_flip(images, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one, other)
