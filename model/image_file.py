"""Image bytes to a Pillow image whose header is read: accepted types only, still pictures, silent.

Goes around ``Image.open``, which warns about large pictures, broken EXIF blocks and malformed
animations. A service cannot silence warnings safely from one of several threads, and their texts,
kept for ever by Python's registry of what was warned about, are chosen by whoever sends the files.
So the parts that Pillow would warn about never reach it: sizes are checked against our own limit,
EXIF is read here for the one tag that matters, animations lose their control chunks.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from model.errors import ImageTooLargeError, InvalidImageError, UnsupportedImageError

# A closed list: Pillow would otherwise try every decoder it has, PostScript included.
ACCEPTED_FORMATS = ("JPEG", "PNG", "WEBP")

_JPEG_SIGNATURE = b"\xff\xd8"
_PNG_SIGNATURE = b"\x89PNG"
_ANIMATION_CHUNKS = (b"acTL", b"fcTL", b"fdAT")
# Encoders of progressive files write about ten. Each goes over the whole picture but may have only
# a few bytes: megabytes of them would keep a decoder busy for minutes.
_MAX_SCANS = 100
_START_OF_SCAN = b"\xff\xda"  # never within a scan's own data
_ORIENTATION_TAG = 0x0112
_EXIF_INTEGERS = {1: "B", 3: "H", 4: "L"}  # TIFF field types that hold one unsigned integer
# Grey levels of 2 and 4 bits are decoded to 0..255, but the transparent level is given as stored.
_GREY_STEPS = {"L;2": 85, "L;4": 17}


@dataclass(frozen=True, eq=False)
class OpenedImage:
    """A picture of an accepted type, not decoded yet."""

    image: ImageFile.ImageFile
    format: str
    frames: int  # of an animation only the first is decoded


class _Jpeg(JpegImageFile):
    """One picture: the further ones that phones append (MPO) are ignored."""

    def getexif(self) -> Image.Exif:
        # Called while opening, for the resolution: parsing a broken block there would warn.
        return Image.Exif()


def open_image(data: bytes) -> OpenedImage:
    """Read the header of one JPEG, PNG or WebP file; no pixel is decoded.

    Raises:
        UnsupportedImageError: not a file type of ACCEPTED_FORMATS.
        InvalidImageError: empty, or a damaged file of such a type.
        ImageTooLargeError: so large that Pillow refuses to open it.
    """
    if not data:
        raise InvalidImageError("the image is empty (0 bytes)")
    try:
        opened = _open(data)
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(f"the image is too large to open: {error}") from error
    except InvalidImageError:
        raise
    except Exception as error:
        # Whatever a parser trips over in bytes from outside is a fault of those bytes.
        raise InvalidImageError(
            f"the image is damaged: {len(data)} bytes, header unreadable ({error})"
        ) from error
    if opened is None:
        raise UnsupportedImageError(
            f"the {len(data)} bytes are not an image of an accepted type "
            f"({', '.join(ACCEPTED_FORMATS)})",
            accepted=list(ACCEPTED_FORMATS),
        )
    return opened


def _open(data: bytes) -> OpenedImage | None:
    """The image by its signature; None for any other type."""
    if data.startswith(_JPEG_SIGNATURE):
        if (scans := data.count(_START_OF_SCAN)) > _MAX_SCANS:
            raise InvalidImageError(f"the JPEG has {scans} scans; the limit is {_MAX_SCANS}")
        return OpenedImage(_Jpeg(io.BytesIO(data)), "JPEG", 1)
    if data.startswith(_PNG_SIGNATURE):
        still, frames = _still_png(data)
        image = PngImageFile(io.BytesIO(still))
        _scale_transparency(image)
        return OpenedImage(image, "PNG", frames)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        webp = WebPImageFile(io.BytesIO(data))
        return OpenedImage(webp, "WEBP", webp.n_frames)
    return None


def _still_png(data: bytes) -> tuple[bytes, int]:
    """A PNG without the chunks of its animation, and how many frames it had."""
    if b"acTL" not in data:
        return data, 1
    frames, kept = 1, [data[:8]]
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">L4s", data, at)
        end = at + 12 + length  # length, type, data, checksum
        if kind == b"acTL" and length >= 4:
            (frames,) = struct.unpack_from(">L", data, at + 8)
        if kind not in _ANIMATION_CHUNKS:
            kept.append(data[at:end])
        at = end
    return b"".join([*kept, data[at:]]), max(1, frames)


def _scale_transparency(image: PngImageFile) -> None:
    """Make the transparent colour comparable with the decoded pixels, as Pillow does not."""
    level, raw_mode = image.info.get("transparency"), image.tile[0].args if image.tile else None
    if isinstance(level, int) and isinstance(raw_mode, str):
        image.info["transparency"] = level * _GREY_STEPS.get(raw_mode, 1)
    elif isinstance(level, tuple) and raw_mode == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in level)


def orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none or the block is broken."""
    exif = image.info.get("exif")
    if not isinstance(exif, bytes):
        return 1
    while exif.startswith(b"Exif\0\0"):  # some writers repeat it
        exif = exif[6:]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}L", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
            if tag == _ORIENTATION_TAG and kind in _EXIF_INTEGERS:
                (value,) = struct.unpack_from(order + _EXIF_INTEGERS[kind], exif, entry + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:  # the block ends before what it announces
        pass
    return 1
