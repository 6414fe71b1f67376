"""The files that are made of pictures: the same picture where it should be, another otherwise."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.other_files import OTHER_PICTURE, SAME_PICTURE, Changed, saved
from model.config import PreprocessConfig
from model.preprocess import load_image
from training.sources.images import PackedImages

SPEC = PreprocessConfig(height=44, width=36)


def picture() -> Image.Image:
    """Smooth, upright, and nowhere symmetrical."""
    down, across = np.mgrid[0:109, 0:89]
    red, green = 40 + down, 220 - 2 * across
    blue = 80 + 60 * np.sin(down / 20 + across / 30)
    return Image.fromarray(np.stack([red, green, blue], axis=2).clip(0, 255).astype(np.uint8))


def pixels(data: bytes) -> np.ndarray:
    return load_image(data, SPEC).pixels.astype(np.int64)


@pytest.mark.parametrize("name", SAME_PICTURE)
def test_the_same_picture_stays_what_it_is(name: str) -> None:
    before, after = pixels(saved(picture(), "PNG")), pixels(SAME_PICTURE[name](picture()))
    assert np.abs(after - before).mean() < (1e-9 if name == "PNG" else 3)


@pytest.mark.parametrize("name", OTHER_PICTURE)
def test_another_picture_is_another(name: str) -> None:
    before, after = pixels(saved(picture(), "PNG")), pixels(OTHER_PICTURE[name](picture()))
    assert np.abs(after - before).mean() > 5


def test_a_picture_on_its_side_is_stored_so() -> None:
    with Image.open(io.BytesIO(SAME_PICTURE["on its side, by EXIF"](picture()))) as image:
        assert image.size == (109, 89)


def test_images_of_a_data_set_are_changed_as_they_are_read() -> None:
    data = saved(picture())
    packed = PackedImages(np.frombuffer(data, np.uint8), np.array([0, len(data)]), ["a.jpg"])
    changed = Changed(packed, SAME_PICTURE["PNG"])
    assert (len(changed), changed.name(0)) == (1, "a.jpg")
    assert np.array_equal(pixels(changed.read(0)), pixels(data))
