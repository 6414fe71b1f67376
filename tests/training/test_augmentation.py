"""Flips, shifts, colour: what may change, by how much, and that draws repeat."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.training.conftest import tiny
from training.augmentation import augment, random_colour, random_flip, random_shift


def pictures(count: int, height: int = 6, width: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=generator)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_about_half_are_mirrored_and_the_others_untouched() -> None:
    images = pictures(400)
    out = random_flip(images, seeded())
    same = (out == images).flatten(1).all(dim=1)
    mirrored = (out == images.flip(2)).flatten(1).all(dim=1)
    assert (same | mirrored).all()
    assert 150 < int(mirrored.sum()) < 250
    assert out.dtype == torch.uint8


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_shifts_show_the_image_moved_with_its_edge_repeated(kind: torch.dtype) -> None:
    images = pictures(300).to(kind)
    out = random_shift(images, 2, seeded())
    assert out.dtype == kind
    padded = torch.nn.functional.pad(
        images.float().permute(0, 3, 1, 2), (2, 2, 2, 2), mode="replicate"
    ).permute(0, 2, 3, 1)
    seen = set()
    for image, wide in zip(out.float(), padded, strict=True):
        found = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if torch.equal(wide[y : y + 6, x : x + 5], image)
        ]
        assert found
        seen.update(found)
    assert len(seen) == 25


def test_colour_changes_brightness_and_contrast_within_bounds() -> None:
    images = torch.full((200, 4, 4, 3), 100, dtype=torch.uint8)
    flat = random_colour(images, 0.2, seeded())
    assert flat.dtype == torch.uint8
    levels = flat.float().mean(dim=(1, 2, 3))
    assert 79 <= levels.min() < 85
    assert 115 < levels.max() <= 121
    images[:, :2] = 60
    spread = random_colour(images, 0.5, seeded()).float()
    ratio = (spread[:, 2:].mean(dim=(1, 2, 3)) / spread[:, :2].mean(dim=(1, 2, 3))).log()
    assert ratio.min() < 0.35  # of log(100 / 60) = 0.51: contrast goes both ways
    assert ratio.max() > 0.7


def test_colour_stays_within_a_byte() -> None:
    images = torch.zeros((50, 2, 2, 3), dtype=torch.uint8)
    images[:, 0] = 255
    out = random_colour(images, 1.0, seeded())
    # A value that wrapped around would turn the order over.
    assert (out[:, 0] >= out[:, 1]).all()


@pytest.mark.parametrize(
    "change",
    [
        random_flip,
        lambda images, generator: random_shift(images, 3, generator),
        lambda images, generator: random_colour(images, 0.4, generator),
    ],
)
def test_the_same_generator_changes_the_same_images(
    change: Callable[[Tensor, torch.Generator], Tensor],
) -> None:
    images = pictures(50, 4, 4)
    one, other, different = (change(images, seeded(seed)) for seed in (7, 7, 8))
    assert torch.equal(one, other)
    assert not torch.equal(one, different)


def test_settings_switch_changes_on() -> None:
    images = pictures(20, 28, 28)
    assert augment(images, tiny(), seeded()) is images
    flipped = augment(images, tiny(flip=True), seeded())
    assert torch.equal(flipped, random_flip(images, seeded()))
    every = augment(images, tiny(flip=True, shift=2, colour_jitter=0.3), seeded())
    generator = seeded()
    by_hand = random_shift(random_flip(images, generator), 2, generator)
    assert torch.equal(every, random_colour(by_hand, 0.3, generator))
