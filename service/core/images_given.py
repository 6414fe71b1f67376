"""Images as requests bring them: how many, and files in base64."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TypeVar

from model.errors import InvalidImageError
from service.core.errors import NoImagesError, TooManyImagesError
from service.core.prediction import EncodedImage

Image = TypeVar("Image")


def checked_count(images: Sequence[Image], max_images: int) -> Sequence[Image]:
    """``images``, if there are some and not too many."""
    check_count(len(images), max_images)
    return images


def check_count(images: int, max_images: int) -> None:
    """Raise NoImagesError or TooManyImagesError for a number of images that is not taken."""
    if not images:
        raise NoImagesError("the request has no image", field="images")
    if images > max_images:
        raise TooManyImagesError(
            f"the request has {images} images; the limit is {max_images} (max_images)",
            images=images,
            max_images=max_images,
        )


def decode_base64(image_id: str, content: str) -> EncodedImage:
    """The image file in ``content``; with an error of its own where it is not base64."""
    try:
        # Line breaks, as the base64 command makes them, are harmless.
        return EncodedImage(image_id, base64.b64decode("".join(content.split()), validate=True))
    except ValueError as error:
        return EncodedImage(
            image_id, error=InvalidImageError(f"image {image_id!r}: content is not base64: {error}")
        )
