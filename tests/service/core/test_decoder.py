"""Decoding happens in the pool, within the deadline, one image's fault apart from another's."""

from __future__ import annotations

import asyncio
import io
import threading

import numpy as np
import pytest
from PIL import Image

from model.config import PreprocessConfig
from model.errors import ImageTooLargeError, InvalidImageError, UnsupportedImageError
from model.preprocess import ImageLimits
from service.core.decoder import Decoder
from service.core.errors import DeadlineError
from tests.service.fakes import FakeClock
from tests.service.pictures import NOT_AN_IMAGE, TRUNCATED, huge_png, picture

SPEC = PreprocessConfig(height=28, width=30)


def test_good_and_bad_images_side_by_side() -> None:
    async def scenario() -> list[object]:
        decoder = Decoder(2, ImageLimits(), FakeClock())
        contents = [picture(200), TRUNCATED, NOT_AN_IMAGE, huge_png(), b""]
        found = await decoder.decode(contents, SPEC, deadline=2000.0)
        decoder.close()
        return list(found)

    good, *bad = asyncio.run(scenario())
    assert isinstance(good, np.ndarray)
    assert good.shape == (28, 30, 3)
    assert (good == 200).all()
    assert [type(error) for error in bad] == [
        InvalidImageError,
        UnsupportedImageError,
        ImageTooLargeError,
        InvalidImageError,
    ]


def test_pixels_are_resized_like_a_lossless_file_of_the_same_picture() -> None:
    async def scenario() -> list[object]:
        decoder = Decoder(1, ImageLimits(), FakeClock())
        file = picture(seed=3)
        pixels = np.asarray(Image.open(io.BytesIO(file)))
        found = await decoder.decode([file, pixels, pixels[:, :, :2]], SPEC, deadline=2000.0)
        decoder.close()
        return list(found)

    from_file, from_pixels, wrong = asyncio.run(scenario())
    assert isinstance(from_file, np.ndarray)
    assert isinstance(from_pixels, np.ndarray)
    np.testing.assert_array_equal(from_file, from_pixels)
    assert isinstance(wrong, InvalidImageError)


def test_nothing_is_decoded_after_the_deadline() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        decoder = Decoder(1, ImageLimits(), clock)
        with pytest.raises(DeadlineError) as caught:
            await decoder.decode([picture()], SPEC, deadline=clock.now())
        assert caught.value.details["stage"] == "decode"
        decoder.close()

    asyncio.run(scenario())


def test_work_runs_in_the_pool_and_its_faults_come_back() -> None:
    async def scenario() -> None:
        decoder = Decoder(1, ImageLimits(), FakeClock())
        name = await decoder.run(lambda: threading.current_thread().name)
        assert name.startswith("decode")
        with pytest.raises(ZeroDivisionError):
            await decoder.run(lambda: 1 // 0)
        decoder.close()

    asyncio.run(scenario())
