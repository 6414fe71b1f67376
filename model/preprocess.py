"""Image bytes to the pixels the network sees: one function for training and for serving.

Order: limits from the header -> decode -> EXIF orientation -> 16-bit, palette, CMYK, alpha to RGB
-> resize. Normalisation happens on the device, inside the network, so that queues and caches hold
uint8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from model.config import PreprocessConfig
from model.errors import ImageTooLargeError, InvalidImageError
from model.image_file import ACCEPTED_FORMATS, OpenedImage, open_image, orientation

__all__ = ["ACCEPTED_FORMATS", "ImageLimits", "LoadedImage", "Pixels", "load_image", "load_pixels"]

Pixels = npt.NDArray[np.uint8]

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class ImageLimits:
    """Checked before any pixel is decoded."""

    max_bytes: int = 20_000_000
    max_pixels: int = 25_000_000

    def check_bytes(self, size: int) -> None:
        """Raise ImageTooLargeError for a file of ``size`` bytes that is too large."""
        if size > self.max_bytes:
            raise ImageTooLargeError(
                f"the image has {size} bytes; the limit is {self.max_bytes} (max_image_bytes)",
                bytes=size,
                max_image_bytes=self.max_bytes,
            )


@dataclass(frozen=True)
class LoadedImage:
    """Pixels ready for the network and what the file said about itself."""

    pixels: Pixels  # [height, width, 3] of the PreprocessConfig, RGB
    original_width: int  # as stored, before orientation
    original_height: int
    format: str
    frames: int  # of an animation only the first is used


def load_image(
    data: bytes, spec: PreprocessConfig, limits: ImageLimits | None = None
) -> LoadedImage:
    """Decode, orient, convert to RGB and resize one JPEG, PNG or WebP file.

    Raises:
        ImageTooLargeError: more bytes or pixels than ``limits``; nothing was decoded.
        UnsupportedImageError: not a file type of ACCEPTED_FORMATS.
        InvalidImageError: empty, truncated or damaged.
    """
    limits = limits or ImageLimits()
    limits.check_bytes(len(data))
    opened = open_image(data)
    width, height = opened.image.size
    if width * height > limits.max_pixels:
        raise ImageTooLargeError(
            f"the image has {width} x {height} = {width * height} pixels; the limit is "
            f"{limits.max_pixels} (max_image_pixels)",
            pixels=width * height,
            max_image_pixels=limits.max_pixels,
        )
    pixels = _resize(_decode(opened, spec), spec)
    return LoadedImage(pixels, width, height, opened.format, opened.frames)


def load_pixels(array: Pixels, spec: PreprocessConfig) -> Pixels:
    """The same for pixels that are already decoded: uint8 [h, w] (grey) or [h, w, 3] (RGB).

    Equal to :func:`load_image` of the same picture in a lossless file.
    """
    channels_fit = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if array.dtype != np.uint8 or not channels_fit or array.size == 0:
        raise InvalidImageError(
            f"pixels are {array.dtype} {array.shape}; expected uint8 [h, w] or [h, w, 3], not empty"
        )
    return _resize(Image.fromarray(array).convert("RGB"), spec)


def _decode(opened: OpenedImage, spec: PreprocessConfig) -> Image.Image:
    """All pixels of the first frame in RGB, turned as its EXIF orientation says."""
    image = opened.image
    try:
        if opened.format == "JPEG":
            # Decodes at 1/2, 1/4 or 1/8 where that still leaves twice the pixels we need.
            image.draft("RGB", (2 * max(spec.width, spec.height),) * 2)
        image.load()
        turn = _TRANSPOSE.get(orientation(image))
        turned = image if turn is None else image.transpose(turn)
        return _to_rgb(turned, spec.background)
    except Exception as error:
        # OSError for most truncations, but also SyntaxError, ValueError, IndexError, struct.error,
        # zlib.error: whatever a decoder trips over in bytes from outside is a fault of those bytes.
        raise InvalidImageError(f"the {opened.format} image cannot be decoded: {error}") from error


def _to_rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if image.mode.startswith("I"):
        return _from_wide_grey(image, background)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        # Colours under transparent pixels are arbitrary; composite, never just drop alpha.
        canvas = Image.new("RGBA", rgba.size, (*background, 255))
        return Image.alpha_composite(canvas, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_wide_grey(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """16-bit grey. ``convert("RGB")`` would clip it at 255 and turn the picture white."""
    wide = np.asarray(image)
    grey = (wide / np.float32(257.0) + np.float32(0.5)).astype(np.uint8)
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    if "transparency" in image.info:
        rgb[wide == image.info["transparency"]] = background
    return Image.fromarray(rgb)


def _resize(image: Image.Image, spec: PreprocessConfig) -> Pixels:
    size = (spec.width, spec.height)
    if image.size != size:
        if spec.fit == "stretch":
            image = image.resize(size, Image.Resampling.BILINEAR)
        elif spec.fit == "crop":
            image = ImageOps.fit(image, size, Image.Resampling.BILINEAR)
        else:
            image = _pad(image, size, spec.background)
    return np.array(image, dtype=np.uint8)


def _pad(
    image: Image.Image, size: tuple[int, int], background: tuple[int, int, int]
) -> Image.Image:
    """The whole picture, centred; at least a line of a very thin one, unlike ImageOps.pad."""
    scale = min(size[0] / image.width, size[1] / image.height)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    canvas = Image.new("RGB", size, background)
    corner = ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)
    canvas.paste(image.resize(inner, Image.Resampling.BILINEAR), corner)
    return canvas
