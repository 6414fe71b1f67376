from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.config import PreprocessConfig
from model.errors import ImageError, ImageTooLargeError, InvalidImageError, UnsupportedImageError
from model.preprocess import ImageLimits, Pixels, load_image, load_pixels
from tests.model.image_samples import (
    BLUE,
    GREEN,
    RED,
    WHITE,
    encode,
    gradient,
    jpeg_with_segment,
    noise,
    png,
    png_chunk,
    quadrants,
)

SPEC = PreprocessConfig(height=32, width=32)
ORIENTATION = 0x0112


def corners(pixels: Pixels) -> list[tuple[int, ...]]:
    """Colours well inside the four quarters: above left and right, below left and right."""
    height, width = pixels.shape[:2]
    return [
        tuple(pixels[y, x].tolist())
        for y in (height // 5, height - height // 5)
        for x in (width // 5, width - width // 5)
    ]


def only_colour(pixels: Pixels) -> tuple[int, ...]:
    colours = {tuple(colour) for colour in pixels.reshape(-1, 3).tolist()}
    assert len(colours) == 1
    return colours.pop()


# --- what comes out ---------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_what_is_known_of_a_loaded_image(file_format: str) -> None:
    spec = PreprocessConfig(height=30, width=40)
    loaded = load_image(encode(Image.fromarray(noise(90, 50)), file_format), spec)
    assert loaded.pixels.shape == (30, 40, 3)
    assert loaded.pixels.dtype == np.uint8
    assert loaded.pixels.flags.writeable
    assert loaded.pixels.flags.c_contiguous
    assert (loaded.original_width, loaded.original_height) == (90, 50)
    assert (loaded.format, loaded.frames) == (file_format, 1)


def test_pixels_of_the_right_size_are_kept_as_they_are() -> None:
    picture = noise(32, 32)
    for file_format in ("PNG", "WEBP"):
        data = encode(Image.fromarray(picture), file_format, lossless=True)
        assert np.array_equal(load_image(data, SPEC).pixels, picture)
    assert np.array_equal(load_pixels(picture, SPEC), picture)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 90), st.integers(1, 90), st.booleans(),
    st.sampled_from(["stretch", "crop", "pad"]), st.sampled_from(["PNG", "WEBP"]),
)  # fmt: skip
def test_decoded_pixels_and_a_lossless_file_give_the_same(
    width: int, height: int, grey: bool, fit: str, file_format: str
) -> None:
    spec = PreprocessConfig.model_validate({"height": 36, "width": 28, "fit": fit})
    picture = noise(width, height)[:, :, 0] if grey else noise(width, height)
    data = encode(Image.fromarray(picture), file_format, lossless=True, exact=True)
    assert np.array_equal(load_image(data, spec).pixels, load_pixels(picture, spec))


def test_pixels_may_be_a_view_of_a_larger_array() -> None:
    picture = noise(80, 60)
    view = picture[::2, ::-1]
    assert np.array_equal(load_pixels(view, SPEC), load_pixels(view.copy(), SPEC))
    before = picture.copy()
    load_pixels(picture, SPEC)[:] = 0
    assert np.array_equal(picture, before)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 1), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0), np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_that_are_no_picture_are_refused(array: Pixels) -> None:
    with pytest.raises(InvalidImageError, match="expected uint8"):
        load_pixels(array, SPEC)


# --- orientation ------------------------------------------------------------------------------

UPRIGHT = [RED, GREEN, BLUE, WHITE]
# How a camera stores an upright picture under each orientation (EXIF 2.3, section 4.6.4).
STORED_BY = {
    1: lambda image: image,
    2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
    4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
    7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
}


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_every_orientation_comes_out_upright(value: int, file_format: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = value
    stored = STORED_BY[value](quadrants(64))
    options = {"quality": 100, "subsampling": 0} if file_format == "JPEG" else {"lossless": True}
    data = encode(stored, file_format, exif=exif, **options)
    found = np.array(corners(load_image(data, SPEC).pixels), dtype=int)
    assert np.abs(found - np.array(UPRIGHT)).max() <= 3


def test_a_turned_picture_reports_its_size_as_stored() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    loaded = load_image(encode(Image.new("RGB", (80, 40)), "JPEG", exif=exif), SPEC)
    assert (loaded.original_width, loaded.original_height) == (80, 40)


def test_a_turned_palette_picture_keeps_palette_and_transparency() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    image = quadrants(32).quantize(4)
    transparent = image.getpixel((31, 31))
    data = encode(image, "PNG", exif=exif, transparency=transparent)
    spec = PreprocessConfig(height=32, width=32, background=(9, 9, 9))
    assert corners(load_image(data, spec).pixels) == [(9, 9, 9), BLUE, GREEN, RED]


def test_broken_exif_keeps_the_orientation_as_stored() -> None:
    block = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHLL", 9, ORIENTATION, 5, 2**20, 2**30)
    plain = load_image(encode(quadrants(), "JPEG", quality=95), SPEC).pixels
    for content in (block, b"Exif\0\0", b"Exif\0\0MM\0*", b"Exif\0\0garbage garbage"):
        broken = load_image(jpeg_with_segment(0xE1, content), SPEC).pixels
        assert np.array_equal(broken, plain)


# --- modes ------------------------------------------------------------------------------------


def test_alpha_is_laid_over_the_background() -> None:
    spec = PreprocessConfig(height=32, width=32, background=(0, 100, 200))
    for mode, colour, expected in (
        ("RGBA", (200, 50, 0, 0), (0, 100, 200)),
        ("RGBA", (200, 50, 0, 255), (200, 50, 0)),
        ("RGBA", (200, 50, 0, 128), (100, 75, 100)),
        ("LA", (50, 0), (0, 100, 200)),
        ("LA", (50, 255), (50, 50, 50)),
    ):
        pixels = load_image(encode(Image.new(mode, (32, 32), colour), "PNG"), spec).pixels
        assert np.abs(np.array(only_colour(pixels)) - np.array(expected)).max() <= 1


def test_transparent_webp_is_laid_over_the_background() -> None:
    spec = PreprocessConfig(height=32, width=32, background=(0, 100, 200))
    data = encode(Image.new("RGBA", (32, 32), (200, 50, 0, 0)), "WEBP", lossless=True, exact=True)
    assert only_colour(load_image(data, spec).pixels) == (0, 100, 200)


def test_the_colour_below_full_transparency_never_shows() -> None:
    hidden = noise(64, 64)
    rgba = np.dstack([hidden, np.zeros((64, 64), np.uint8)])
    pixels = load_image(encode(Image.fromarray(rgba), "PNG"), SPEC).pixels
    assert only_colour(pixels) == WHITE


def test_palettes_with_one_transparent_entry_and_with_an_alpha_per_entry() -> None:
    palette = png_chunk(b"PLTE", bytes([*RED, *GREEN, *BLUE]))
    spec = PreprocessConfig(height=32, width=32, background=(10, 20, 30))
    rows = b"".join(b"\0" + bytes([0] * 16 + [1] * 16) for _ in range(32))
    one = png(32, 32, 8, 3, rows, [palette, png_chunk(b"tRNS", b"\0")])
    pixels = load_image(one, spec).pixels
    assert [tuple(pixels[0, x]) for x in (0, 31)] == [(10, 20, 30), GREEN]
    each = png(32, 32, 8, 3, rows, [palette, png_chunk(b"tRNS", bytes([255, 128, 7]))])
    pixels = load_image(each, spec).pixels
    assert tuple(pixels[0, 0]) == RED
    assert np.abs(pixels[0, 31].astype(int) - (5, 138, 15)).max() <= 1


def test_palette_with_alpha_from_pillow() -> None:
    image = Image.new("RGBA", (32, 32), (255, 0, 0, 0)).convert("PA")
    assert only_colour(load_image(encode(image.convert("LA"), "PNG"), SPEC).pixels) == WHITE
    image = Image.new("P", (32, 32), 3)
    image.putpalette([0, 0, 0] * 3 + [1, 2, 3])
    assert only_colour(load_image(encode(image, "PNG"), SPEC).pixels) == (1, 2, 3)


@pytest.mark.parametrize(
    ("level", "expected"), [(0, 0), (256, 1), (257, 1), (32768, 128), (40000, 156), (65535, 255)]
)
def test_16_bit_grey_is_scaled_not_clipped(level: int, expected: int) -> None:
    image = Image.fromarray(np.full((32, 32), level, np.uint16))
    assert image.mode == "I;16"
    assert only_colour(load_image(encode(image, "PNG"), SPEC).pixels) == (expected,) * 3


def test_a_transparent_16_bit_grey_level_shows_the_background() -> None:
    levels = np.full((32, 32), 1000, np.uint16)
    levels[:, 16:] = 1001  # the same after scaling, but not transparent
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    data = png(32, 32, 16, 0, rows, [png_chunk(b"tRNS", struct.pack(">H", 1000))])
    pixels = load_image(data, SPEC).pixels
    assert [tuple(pixels[0, x]) for x in (0, 31)] == [WHITE, (4, 4, 4)]


def test_16_bit_colour_keeps_its_high_byte() -> None:
    row = struct.pack(">3H", 0x1280, 0x3400, 0xFFFF) * 32
    pixels = load_image(png(32, 32, 16, 2, (b"\0" + row) * 32), SPEC).pixels
    assert only_colour(pixels) == (0x12, 0x34, 0xFF)


@pytest.mark.parametrize(
    ("inks", "expected"),
    [
        ((0, 0, 0, 0), WHITE),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 255, 255, 0), RED),
    ],
)
def test_cmyk_jpeg_has_the_colours_that_are_printed(
    inks: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    data = encode(Image.new("CMYK", (64, 64), inks), "JPEG", quality=100)
    pixels = load_image(data, SPEC).pixels.astype(int)
    assert np.abs(pixels - expected).max() <= 3


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_and_black_and_white(file_format: str, mode: str) -> None:
    image = Image.new("L", (32, 32))
    image.paste(255, (16, 0, 32, 32))
    data = encode(image.convert(mode), file_format, quality=100)
    pixels = load_image(data, SPEC).pixels
    assert np.abs(pixels[:, 4].astype(int)).max() <= 3
    assert np.abs(pixels[:, 28].astype(int) - 255).max() <= 3
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_progressive_and_baseline_jpeg_agree() -> None:
    picture = Image.fromarray(gradient(100, 80))
    baseline = load_image(encode(picture, "JPEG", quality=90), SPEC).pixels
    progressive = load_image(encode(picture, "JPEG", quality=90, progressive=True), SPEC).pixels
    assert np.array_equal(baseline, progressive)


def test_an_interlaced_png_is_decoded_whole() -> None:
    # Adam7 on one pixel is a single pass, on 2 x 2 it is three.
    header = png_chunk(b"IHDR", struct.pack(">LLBBBBB", 2, 2, 8, 0, 0, 0, 1))
    passes = b"\0\x00" + b"\0\xff" + b"\0\xff\0"
    body = png_chunk(b"IDAT", zlib.compress(passes)) + png_chunk(b"IEND", b"")
    loaded = load_image(b"\x89PNG\r\n\x1a\n" + header + body, SPEC)
    quarters = [colour[0] for colour in corners(loaded.pixels)]
    assert [level > 127 for level in quarters] == [False, True, True, False]


def test_only_the_first_frame_of_an_animation_is_used() -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in (BLUE, RED, GREEN)]
    for file_format in ("PNG", "WEBP"):
        data = encode(
            frames[0], file_format, save_all=True, append_images=frames[1:], lossless=True
        )
        loaded = load_image(data, SPEC)
        assert (loaded.frames, only_colour(loaded.pixels)) == (3, BLUE)


# --- size and shape ---------------------------------------------------------------------------


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (3, 5_000), (33, 31)])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_tiny_and_very_long_pictures_keep_their_colour(
    fit: str, size: tuple[int, int], file_format: str
) -> None:
    spec = PreprocessConfig.model_validate(
        {"height": 40, "width": 28, "fit": fit, "background": (1, 2, 3)}
    )
    data = encode(Image.new("RGB", size, (200, 60, 20)), file_format, quality=95)
    pixels = load_image(data, spec).pixels
    assert pixels.shape == (40, 28, 3)
    picture = pixels[~(pixels == (1, 2, 3)).all(axis=2)].astype(int)
    assert len(picture) > 0
    assert np.abs(picture - (200, 60, 20)).max() <= 4


def test_stretch_crop_and_pad_differ_as_they_say() -> None:
    image = Image.new("RGB", (96, 32), GREEN)
    image.paste(RED, (0, 0, 32, 32))
    image.paste(BLUE, (64, 0, 96, 32))

    def shown(fit: str) -> Pixels:
        spec = PreprocessConfig.model_validate(
            {"height": 32, "width": 32, "fit": fit, "background": (7, 8, 9)}
        )
        return load_image(encode(image, "PNG"), spec).pixels

    stretched = shown("stretch")
    assert [tuple(stretched[16, x]) for x in (0, 16, 31)] == [RED, GREEN, BLUE]
    assert only_colour(shown("crop")) == GREEN
    padded = shown("pad")
    assert [tuple(padded[y, 16]) for y in (0, 9, 16, 22, 31)] == [
        (7, 8, 9), (7, 8, 9), GREEN, (7, 8, 9), (7, 8, 9),
    ]  # fmt: skip
    assert [tuple(padded[16, x]) for x in (0, 31)] == [RED, BLUE]


def test_shrinking_averages_rather_than_skips() -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    pixels = load_pixels(stripes, SPEC).astype(int)
    assert np.abs(pixels[:, 2:-2] - 128).max() <= 10


def test_large_jpegs_are_decoded_smaller_and_look_the_same() -> None:
    picture = gradient(1600, 1200)
    data = encode(Image.fromarray(picture), "JPEG", quality=95)
    fast = load_image(data, SPEC)
    assert (fast.original_width, fast.original_height) == (1600, 1200)
    exact = load_pixels(np.asarray(Image.open(io.BytesIO(data))), SPEC)
    assert np.abs(fast.pixels.astype(int) - exact).max() <= 4


def test_the_smaller_decoding_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    resize = Image.Image.resize

    def spy(self: Image.Image, *args: object, **kwargs: object) -> Image.Image:
        sizes.append(self.size)
        return resize(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", spy)
    load_image(encode(Image.fromarray(gradient(1600, 1200)), "JPEG"), SPEC)
    assert sizes == [(200, 150)]


# --- limits -----------------------------------------------------------------------------------


def megapixels(width: int, height: int) -> bytes:
    """A PNG whose header promises this size; its pixels compress to next to nothing."""
    return png(width, height, 8, 2, bytes(1000))


@pytest.fixture
def _no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    for name in ("PIL.ImageFile.ImageFile.load", "PIL.WebPImagePlugin.WebPImageFile.load"):
        monkeypatch.setattr(name, refuse)


@pytest.mark.usefixtures("_no_decoding")
@pytest.mark.parametrize(
    ("width", "height"),
    [(10_000, 10_000), (5_001, 5_000), (12_000, 16_000), (2**31 - 1, 1), (2**31 - 1, 2**31 - 1)],
)
def test_too_many_pixels_are_refused_from_the_header(width: int, height: int) -> None:
    with pytest.raises(
        ImageTooLargeError, match=r"the limit is 25000000 \(max_image_pixels\)"
    ) as e:
        load_image(megapixels(width, height), SPEC)
    assert e.value.details == {"pixels": width * height, "max_image_pixels": 25_000_000}


@pytest.mark.usefixtures("_no_decoding")
@pytest.mark.parametrize("file_format", ["JPEG", "WEBP"])
def test_the_pixel_limit_holds_for_every_type(file_format: str) -> None:
    data = encode(Image.new("RGB", (300, 200)), file_format)
    with pytest.raises(ImageTooLargeError, match="300 x 200 = 60000 pixels; the limit is 59999"):
        load_image(data, SPEC, ImageLimits(max_pixels=59_999))


@pytest.mark.usefixtures("_no_decoding")
def test_a_real_file_of_a_hundred_megapixels_is_never_decoded() -> None:
    data = encode(Image.new("1", (10_000, 10_000)), "PNG")
    assert len(data) < 20_000
    with pytest.raises(ImageTooLargeError):
        load_image(data, SPEC)


def test_the_byte_limit_comes_first() -> None:
    data = encode(Image.new("RGB", (30, 20)), "PNG")
    limits = ImageLimits(max_bytes=len(data) - 1)
    with pytest.raises(ImageTooLargeError, match=r"\(max_image_bytes\)") as caught:
        load_image(data, SPEC, limits)
    assert caught.value.details == {"bytes": len(data), "max_image_bytes": len(data) - 1}
    with pytest.raises(ImageTooLargeError):
        load_image(b"no image at all", SPEC, ImageLimits(max_bytes=3))


def test_exactly_at_the_limits_is_accepted() -> None:
    data = encode(Image.new("RGB", (30, 20), RED), "PNG")
    limits = ImageLimits(max_bytes=len(data), max_pixels=600)
    assert only_colour(load_image(data, SPEC, limits).pixels) == RED


# --- damage -----------------------------------------------------------------------------------


def samples() -> dict[str, bytes]:
    image = Image.fromarray(noise(48, 40))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    frames = [Image.fromarray(noise(20, 20, seed)) for seed in range(3)]
    return {
        "jpeg": encode(image, "JPEG", exif=exif),
        "progressive jpeg": encode(image, "JPEG", progressive=True),
        "cmyk jpeg": encode(image.convert("CMYK"), "JPEG"),
        "png": encode(image, "PNG", exif=exif),
        "palette png": encode(image.quantize(16), "PNG", transparency=3),
        "rgba png": encode(image.convert("RGBA"), "PNG"),
        "16-bit png": encode(
            Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30)), "PNG"
        ),
        "animated png": encode(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "lossy webp": encode(image, "WEBP"),
        "lossless webp": encode(image, "WEBP", lossless=True, exif=exif),
        "animated webp": encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
    }


SAMPLES = samples()


def outcome(data: bytes) -> str:
    """Pixels of the right shape or one of our errors; anything else fails the test."""
    try:
        loaded = load_image(data, SPEC, ImageLimits(max_pixels=200_000))
    except ImageError as error:
        return error.code
    assert loaded.pixels.shape == (32, 32, 3)
    return "loaded"


@pytest.mark.parametrize("name", SAMPLES)
def test_truncated_files_are_invalid(name: str) -> None:
    data = SAMPLES[name]
    step = max(1, len(data) // 100)
    outcomes = [outcome(data[:length]) for length in [*range(1, 60), *range(60, len(data), step)]]
    assert set(outcomes) <= {"loaded", "invalid_image", "unsupported_image_type"}
    assert outcomes.count("loaded") <= len(outcomes) // 2
    assert outcome(data) == "loaded"
    # Half the file is never enough for a still picture.
    if "animated" not in name:
        with pytest.raises(InvalidImageError, match=r"cannot be decoded|damaged"):
            load_image(data[: len(data) // 2], SPEC)


@pytest.mark.parametrize("name", SAMPLES)
def test_damaged_files_give_pixels_or_our_errors(name: str) -> None:
    generator = random.Random(name)
    outcomes = set()
    for _ in range(120):
        data = bytearray(SAMPLES[name])
        for _ in range(generator.randrange(1, 5)):
            at = generator.randrange(min(len(data), generator.choice([64, 10**6])))
            kind = generator.randrange(4)
            if kind == 0:
                data[at] = generator.randrange(256)
            elif kind == 1:
                data[at] ^= 1 << generator.randrange(8)
            elif kind == 2:
                del data[at : at + generator.randrange(1, 40)]
            else:
                data[at:at] = generator.randbytes(generator.randrange(1, 40))
        outcomes.add(outcome(bytes(data)))
    assert "invalid_image" in outcomes


def test_png_chunks_that_lie_are_our_errors() -> None:
    generator = random.Random(1)
    kinds = [b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"eXIf", b"iCCP", b"zTXt", b"iTXt",
             b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"IDAT", b"IEND", b"IHDR", b"qqQq"]  # fmt: skip
    for _ in range(300):
        depth, colour = generator.choice(
            [(8, 0), (16, 0), (8, 2), (16, 2), (8, 3), (2, 3), (16, 6)]
        )
        before = [
            png_chunk(
                generator.choice(kinds), generator.randbytes(generator.choice([0, 1, 3, 8, 26]))
            )
            for _ in range(generator.randrange(1, 4))
        ]
        outcome(png(4, 2, depth, colour, bytes(2 * (1 + 4 * 8)), before))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x20\0\0\0WEBPVP8L"]),
       st.binary(max_size=200))  # fmt: skip
def test_any_bytes_at_all_are_our_errors(start: bytes, rest: bytes) -> None:
    assert outcome(start + rest) in {"invalid_image", "unsupported_image_type", "image_too_large"}


def test_a_compression_bomb_in_the_text_of_a_png_is_invalid() -> None:
    bomb = png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(50_000_000)))
    with pytest.raises(InvalidImageError):
        load_image(png(1, 1, 8, 0, b"\0\0", [bomb]), SPEC)


@pytest.mark.parametrize("file_format", ["BMP", "GIF", "TIFF"])
def test_unaccepted_types_are_unsupported(file_format: str) -> None:
    with pytest.raises(UnsupportedImageError):
        load_image(encode(Image.new("RGB", (30, 20)), file_format), SPEC)
