from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import threading

import pytest
from PIL import Image, PngImagePlugin

from model.errors import ImageError, InvalidImageError, UnsupportedImageError
from model.image_file import ACCEPTED_FORMATS, OpenedImage, open_image, orientation
from tests.model.image_samples import (
    GREEN,
    RED,
    encode,
    exif_with,
    jpeg_with_segment,
    png,
    png_chunk,
    quadrants,
)


def pixel(opened: OpenedImage, x: int = 0, y: int = 0) -> tuple[int, ...]:
    found = opened.image.convert("RGB").getpixel((x, y))
    assert isinstance(found, tuple)
    return found


@pytest.mark.parametrize("file_format", ACCEPTED_FORMATS)
def test_opening_reads_the_header_and_decodes_nothing(
    file_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(Image.new("RGB", (30, 20)), file_format)

    def refuse(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", refuse)
    opened = open_image(data)
    assert (opened.format, opened.frames, opened.image.size) == (file_format, 1, (30, 20))


@pytest.mark.parametrize("file_format", ["BMP", "GIF", "TIFF", "PPM", "ICO", "EPS"])
def test_other_image_types_are_refused(file_format: str) -> None:
    data = encode(Image.new("RGB", (30, 20)), file_format)
    with pytest.raises(UnsupportedImageError, match="JPEG, PNG, WEBP") as caught:
        open_image(data)
    assert caught.value.details == {"accepted": ["JPEG", "PNG", "WEBP"]}


@pytest.mark.parametrize(
    "data",
    [b"hello, world", b"\0" * 100, b"RIFF\x10\0\0\0WAVEfmt ", b"%PDF-1.7", b"<svg/>", b"\xff"],
)
def test_bytes_that_are_no_image_are_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedImageError, match=f"the {len(data)} bytes are not an image"):
        open_image(data)


def test_no_bytes_have_a_message_of_their_own() -> None:
    with pytest.raises(InvalidImageError, match="empty"):
        open_image(b"")


@pytest.mark.parametrize("start", [b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"RIFF\x10\0\0\0WEBPVP8 "])
def test_a_damaged_header_is_told_from_another_type(start: bytes) -> None:
    with pytest.raises(InvalidImageError, match="damaged"):
        open_image(start + b"\0" * 40)


def test_an_animated_png_gives_its_default_image() -> None:
    colours = [Image.new("RGB", (20, 20), name) for name in ("red", "green", "blue")]
    data = encode(colours[0], "PNG", save_all=True, append_images=colours[1:])
    opened = open_image(data)
    assert (opened.frames, pixel(opened)) == (3, RED)
    data = encode(
        Image.new("RGB", (20, 20), RED),
        "PNG", save_all=True, append_images=colours[1:], default_image=True,
    )  # fmt: skip
    opened = open_image(data)
    assert (opened.frames, pixel(opened)) == (2, RED)


def test_an_animated_webp_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (20, 20), name) for name in ("red", "lime")]
    data = encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    opened = open_image(data)
    assert (opened.frames, pixel(opened)) == (2, RED)


def test_a_picture_that_mentions_an_animation_chunk_stays_whole() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "acTL, fcTL and fdAT are chunks of animations")
    assert pixel(open_image(encode(Image.new("RGB", (8, 8), GREEN), "PNG", pnginfo=info))) == GREEN


MPO_INDEX = b"MPF\0II*\0\x08\0\0\0" + struct.pack("<H", 9)  # announces nine entries, has none
BROKEN_EXIF = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHLL", 3, 0x011A, 5, 2**20, 2**30)
NOISY = {
    "exif announces more than it has": jpeg_with_segment(0xE1, BROKEN_EXIF),
    "malformed index of a multi-picture file": jpeg_with_segment(0xE2, MPO_INDEX),
    "animation of no frames": png(
        1, 1, 8, 0, b"\0\x80", [png_chunk(b"acTL", struct.pack(">LL", 0, 0))]
    ),
    "two animation headers": png(
        1, 1, 8, 0, b"\0\x80", [png_chunk(b"acTL", struct.pack(">LL", 2, 0))] * 2
    ),
    "90 megapixels": encode(Image.new("1", (9_500, 9_500)), "PNG"),
}  # fmt: skip


def open_with_pillow(data: bytes) -> None:
    Image.open(io.BytesIO(data)).getexif()


@pytest.mark.parametrize("name", NOISY)
def test_what_pillow_warns_about_is_opened_in_silence(name: str) -> None:
    with pytest.warns((UserWarning, Image.DecompressionBombWarning)):
        open_with_pillow(NOISY[name])  # so that this test notices if Pillow stops warning
    opened = open_image(NOISY[name])  # a warning would be an error here
    if opened.image.width < 1000:
        opened.image.load()
    assert orientation(opened.image) == 1


def test_importing_and_opening_change_no_global_policy() -> None:
    script = (
        "import warnings, numpy, model.config; from PIL import Image; "
        "before = list(warnings.filters), Image.MAX_IMAGE_PIXELS; import model.preprocess; "
        "assert before == (list(warnings.filters), Image.MAX_IMAGE_PIXELS)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_multi_picture_file_of_a_phone_is_a_jpeg() -> None:
    shots = [quadrants(), Image.new("RGB", (64, 64))]
    data = encode(shots[0], "MPO", save_all=True, append_images=shots[1:])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    opened = open_image(data)
    assert (opened.format, opened.frames) == ("JPEG", 1)
    assert opened.image.size == (64, 64)


@pytest.mark.parametrize(
    ("depth", "row", "level", "alphas"),
    [
        (1, b"\x40", 1, [255, 0]),
        (2, b"\x90", 1, [255, 0]),
        (4, b"\x5f", 5, [0, 255]),
        (8, b"\x05\xff", 5, [0, 255]),
    ],
)
def test_the_transparent_grey_level_of_any_depth(
    depth: int, row: bytes, level: int, alphas: list[int]
) -> None:
    data = png(2, 1, depth, 0, b"\0" + row, [png_chunk(b"tRNS", struct.pack(">H", level))])
    rgba = open_image(data).image.convert("RGBA")
    assert list(rgba.getchannel("A").tobytes()) == alphas


def test_the_transparent_colour_of_16_bit_channels() -> None:
    row = struct.pack(">6H", 0x1234, 0x2345, 0x3456, 0x9234, 0x2345, 0x3456)
    colour = png_chunk(b"tRNS", struct.pack(">3H", 0x1234, 0x2345, 0x3456))
    rgba = open_image(png(2, 1, 16, 2, b"\0" + row, [colour])).image.convert("RGBA")
    assert rgba.getpixel((0, 0)) == (0x12, 0x23, 0x34, 0)
    assert rgba.getpixel((1, 0)) == (0x92, 0x23, 0x34, 255)


def with_exif(block: object) -> Image.Image:
    image = Image.new("RGB", (1, 1))
    image.info["exif"] = block
    return image


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [1, 3, 4])
@pytest.mark.parametrize("repeat", [0, 1, 2])
def test_orientation_in_every_spelling(value: int, order: str, kind: int, repeat: int) -> None:
    block = exif_with(value, order=order, kind=kind, repeat=repeat)
    assert orientation(with_exif(block)) == value


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
def test_orientations_that_do_not_exist_mean_upright(value: int) -> None:
    assert orientation(with_exif(exif_with(value))) == 1


def test_orientation_agrees_with_pillow_on_its_own_files() -> None:
    for value in range(1, 9):
        exif = Image.Exif()
        exif[0x010F], exif[0x0112], exif[0x011A] = "maker", value, 72.0
        for file_format in ACCEPTED_FORMATS:
            data = encode(quadrants(), file_format, exif=exif)
            assert Image.open(io.BytesIO(data)).getexif()[0x0112] == value
            opened = open_image(data)
            opened.image.load()
            assert orientation(opened.image) == value


def test_orientation_of_broken_blocks_is_upright_and_never_raises() -> None:
    assert orientation(Image.new("RGB", (1, 1))) == 1
    assert orientation(with_exif("text")) == 1
    block = exif_with(6)
    for length in range(len(block) - 6):
        assert orientation(with_exif(block[:length])) == 1
    generator = random.Random(0)
    for _ in range(300):
        damaged = bytearray(block)
        for _ in range(generator.randrange(1, 6)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        assert 1 <= orientation(with_exif(bytes(damaged))) <= 8


def test_an_ifd_loop_or_a_far_offset_is_no_trap() -> None:
    for start in (0, 2, 8, 2**31, 2**32 - 1):
        block = b"II*\0" + struct.pack("<LH", start, 65535) + bytes(40)
        assert orientation(with_exif(block)) == 1


def test_many_threads_open_noisy_files_without_disturbing_each_other() -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for name, data in NOISY.items():
                opened = open_image(data)
                if name != "90 megapixels":
                    opened.image.load()
        except (ImageError, Warning) as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
