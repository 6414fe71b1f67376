"""Image bytes to the pixels the network sees: one function for training and for serving.

Order: limits from the header -> decode -> EXIF orientation -> 16-bit, palette, CMYK, alpha to RGB
-> resize. Normalisation happens on the device, inside the network, so that queues and caches hold
uint8.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from model.config import PreprocessConfig
from model.errors import ImageTooLargeError, InvalidImageError, UnsupportedImageError

Pixels = npt.NDArray[np.uint8]

# A closed list: Pillow would otherwise try every decoder it has, PostScript included.
ACCEPTED_FORMATS = ("JPEG", "PNG", "WEBP")
EXIF_ORIENTATION = 0x0112

# What Pillow raises for damaged files, by decoder: OSError (truncation), SyntaxError and ValueError
# (PNG), struct.error is wrapped; MemoryError for lengths that lie.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    MemoryError,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class ImageLimits:
    """Checked before any pixel is decoded."""

    max_bytes: int = 20_000_000
    max_pixels: int = 25_000_000


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
    if not data:
        raise InvalidImageError("the image is empty (0 bytes)")
    if len(data) > limits.max_bytes:
        raise ImageTooLargeError(
            f"the image has {len(data)} bytes; the limit is {limits.max_bytes} (max_image_bytes)",
            bytes=len(data),
            max_image_bytes=limits.max_bytes,
        )
    image = _open(data)
    width, height = image.size
    if width * height > limits.max_pixels:
        raise ImageTooLargeError(
            f"the image has {width} x {height} = {width * height} pixels; the limit is "
            f"{limits.max_pixels} (max_image_pixels)",
            pixels=width * height,
            max_image_pixels=limits.max_pixels,
        )
    file_format, frames = image.format or "", getattr(image, "n_frames", 1)
    try:
        if file_format == "JPEG":
            # Decodes at 1/2, 1/4 or 1/8 where that still leaves twice the pixels we need.
            image.draft("RGB", (2 * max(spec.width, spec.height),) * 2)
        image.load()
        pixels = _resize(_to_rgb(_upright(image), spec.background), spec)
    except _DECODE_ERRORS as error:
        raise InvalidImageError(f"the {file_format} image cannot be decoded: {error}") from error
    return LoadedImage(pixels, width, height, file_format, frames)


def load_pixels(array: Pixels, spec: PreprocessConfig) -> Pixels:
    """The same for pixels that are already decoded: uint8 [h, w] (grey) or [h, w, 3] (RGB).

    Equal to :func:`load_image` of the same picture in a lossless file.
    """
    if array.dtype != np.uint8 or not (
        array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    ):
        raise InvalidImageError(
            f"pixels are {array.dtype} {array.shape}; expected uint8 [h, w] or [h, w, 3]"
        )
    return _resize(Image.fromarray(array).convert("RGB"), spec)


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=ACCEPTED_FORMATS)
    except UnidentifiedImageError as error:
        accepted = ", ".join(ACCEPTED_FORMATS)
        if _has_accepted_signature(data):
            raise InvalidImageError(
                f"the image is damaged: {len(data)} bytes, header unreadable"
            ) from error
        raise UnsupportedImageError(
            f"the {len(data)} bytes are not an image of an accepted type ({accepted})",
            accepted=list(ACCEPTED_FORMATS),
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(f"the image is too large to open: {error}") from error
    except _DECODE_ERRORS as error:
        raise InvalidImageError(f"the image cannot be opened: {error}") from error


def _has_accepted_signature(data: bytes) -> bool:
    """True for a damaged file of an accepted type: a different fault than a text file."""
    return data.startswith((b"\xff\xd8", b"\x89PNG")) or (
        data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    )


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; a file with broken EXIF keeps the orientation as stored."""
    try:
        if image.getexif().get(EXIF_ORIENTATION, 1) == 1:
            return image
        return ImageOps.exif_transpose(image)
    except (*_DECODE_ERRORS, KeyError, TypeError, ZeroDivisionError):
        return image


def _to_rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if image.mode.startswith("I"):
        # convert("RGB") would clip 16-bit grey at 255 and turn the picture white.
        wide = np.asarray(image).astype(np.float32)
        return Image.fromarray(np.clip(wide / 257.0 + 0.5, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        # Colours under transparent pixels are arbitrary; composite, never just drop alpha.
        canvas = Image.new("RGBA", rgba.size, (*background, 255))
        return Image.alpha_composite(canvas, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _resize(image: Image.Image, spec: PreprocessConfig) -> Pixels:
    size = (spec.width, spec.height)
    if image.size != size:
        if spec.fit == "stretch":
            image = image.resize(size, Image.Resampling.BILINEAR)
        elif spec.fit == "crop":
            image = ImageOps.fit(image, size, Image.Resampling.BILINEAR)
        else:
            image = ImageOps.pad(image, size, Image.Resampling.BILINEAR, color=spec.background)
    return np.array(image, dtype=np.uint8)
