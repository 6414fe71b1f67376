"""Decoding: the service's pixels, in memory or mapped, and unreadable images left out by name."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.config import PreprocessConfig
from model.preprocess import load_image
from model.tasks import Task, TaskSet
from training.decoding import Decoder
from training.errors import DataError
from training.pixel_cache import PixelCache, default_folder
from training.sources import Dataset, Images
from training.sources.images import ArrayImages

SPEC = PreprocessConfig(height=28, width=32)


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (shade, 10, 200)).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class ListImages:
    files: Sequence[bytes]
    reads: int = 0

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        return f"{index}.png"

    def read(self, index: int) -> bytes:
        self.reads += 1
        return self.files[index]


def dataset(images: Images, test: Sequence[int] = ()) -> Dataset:
    split = np.array(["train"] * len(images))
    split[list(test)] = "test"
    labels = np.arange(len(images), dtype=np.int16)[:, None] % 2
    return Dataset("list", "sha256:1", TaskSet((Task(name="odd"),)), labels, split, images)


@pytest.fixture(params=["memory", "mapped"])
def decoder(request: pytest.FixtureRequest, tmp_path: Path) -> Decoder:
    limit = 2**30 if request.param == "memory" else 0
    return Decoder(PixelCache(tmp_path / "cache"), in_memory_bytes=limit)


def test_pixels_are_the_services(decoder: Decoder) -> None:
    images = ListImages([png(shade) for shade in range(5)])
    decoded = decoder.decode(dataset(images), "train", SPEC)
    for index in range(5):
        assert (decoded.pixels[index] == load_image(images.files[index], SPEC).pixels).all()
    assert decoded.labels[:, 0].tolist() == [0, 1, 0, 1, 0]
    assert decoded.unreadable == ()


def test_only_the_split_is_decoded(decoder: Decoder) -> None:
    images = ListImages([png(shade) for shade in range(6)])
    decoded = decoder.decode(dataset(images, test=[1, 5]), "test", SPEC)
    assert decoded.pixels.shape == (2, 28, 32, 3)
    assert decoded.labels[:, 0].tolist() == [1, 1]
    assert images.reads == 2


def test_unreadable_images_are_left_out_and_named(decoder: Decoder) -> None:
    files = [png(0), b"", png(2), b"no image", png(4)[:60]]
    decoded = decoder.decode(dataset(ListImages(files)), "train", SPEC)
    assert len(decoded) == 2
    assert (decoded.pixels[1] == load_image(files[2], SPEC).pixels).all()
    assert decoded.labels[:, 0].tolist() == [0, 0]
    assert [one.name for one in decoded.unreadable] == ["1.png", "3.png", "4.png"]
    assert "empty" in decoded.unreadable[0].reason


def test_not_one_readable_image(decoder: Decoder) -> None:
    decoded = decoder.decode(dataset(ListImages([b"", b"x"])), "train", SPEC)
    assert decoded.pixels.shape == (0, 28, 32, 3)
    assert decoded.labels.shape == (0, 1)
    assert len(decoded.unreadable) == 2


def test_an_empty_split_is_no_error(decoder: Decoder) -> None:
    decoded = decoder.decode(dataset(ListImages([png(1)])), "val", SPEC)
    assert decoded.pixels.shape == (0, 28, 32, 3)


def test_a_file_that_vanished_is_reported(decoder: Decoder) -> None:
    @dataclass
    class Vanishing(ListImages):
        def read(self, index: int) -> bytes:
            if index == 1:
                raise FileNotFoundError("1.png is gone")
            return self.files[index]

    decoded = decoder.decode(dataset(Vanishing([png(0), png(1)])), "train", SPEC)
    assert [(one.name, one.reason) for one in decoded.unreadable] == [("1.png", "1.png is gone")]


def test_raw_arrays_are_resized(decoder: Decoder) -> None:
    pixels = np.full((3, 50, 50), 77, np.uint8)
    decoded = decoder.decode(dataset(ArrayImages(pixels)), "train", SPEC)
    assert (decoded.pixels == 77).all()
    assert decoded.pixels.shape == (3, 28, 32, 3)


def test_progress_counts_every_image(decoder: Decoder) -> None:
    done: list[int] = []
    files = [png(0), b"", png(2)]
    decoder.decode(dataset(ListImages(files)), "train", SPEC, done.append)
    assert sum(done) == 3


def test_a_second_run_reads_the_map_and_no_image(tmp_path: Path) -> None:
    images = ListImages([png(0), b"", png(2)])
    decoder = Decoder(PixelCache(tmp_path), in_memory_bytes=0)
    first = decoder.decode(dataset(images), "train", SPEC)
    second = decoder.decode(dataset(images), "train", SPEC)
    assert images.reads == 3
    assert (first.pixels == second.pixels).all()
    assert first.unreadable == second.unreadable
    other = decoder.decode(dataset(images), "train", PreprocessConfig(height=30, width=30))
    assert other.pixels.shape == (2, 30, 30, 3)
    assert images.reads == 6


def test_a_file_that_can_be_read_again_is_no_longer_left_out(tmp_path: Path) -> None:
    @dataclass
    class Away(ListImages):
        away: bool = True

        def read(self, index: int) -> bytes:
            if self.away and index == 1:
                raise PermissionError("permission denied")
            return super().read(index)

    images = Away([png(0), png(1), b""])
    decoder = Decoder(PixelCache(tmp_path), in_memory_bytes=0)
    assert len(decoder.decode(dataset(images), "train", SPEC)) == 1
    images.away = False
    decoded = decoder.decode(dataset(images), "train", SPEC)
    assert [one.name for one in decoded.unreadable] == ["2.png"]
    reads = images.reads
    assert len(decoder.decode(dataset(images), "train", SPEC)) == 2
    assert images.reads == reads


def test_an_unfinished_entry_is_written_again(tmp_path: Path) -> None:
    decoder = Decoder(PixelCache(tmp_path), in_memory_bytes=0)
    images = ListImages([png(0), png(1)])
    decoder.decode(dataset(images), "train", SPEC)
    next(tmp_path.glob("*.json")).unlink()
    assert len(decoder.decode(dataset(images), "train", SPEC)) == 2
    assert images.reads == 4


@pytest.mark.parametrize("content", [None, b"", b"cut off"])
def test_an_entry_whose_pixels_are_not_there_is_written_again(
    tmp_path: Path, content: bytes | None
) -> None:
    decoder = Decoder(PixelCache(tmp_path), in_memory_bytes=0)
    images = ListImages([png(0), png(1)])
    expected = np.array(decoder.decode(dataset(images), "train", SPEC).pixels)
    (pixels,) = tmp_path.glob("*.rgb")
    pixels.unlink()
    if content is not None:
        pixels.write_bytes(content)
    assert (decoder.decode(dataset(images), "train", SPEC).pixels == expected).all()
    assert images.reads == 4


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    decoder = Decoder(PixelCache(tmp_path / "cache"), in_memory_bytes=0)
    with pytest.raises(DataError, match=r"cache: cannot be written: .*elsewhere \(--cache-dir"):
        decoder.decode(dataset(ListImages([png(0)])), "train", SPEC)


def test_nothing_is_left_behind_by_a_failure(tmp_path: Path) -> None:
    @dataclass
    class Failing(ListImages):
        def read(self, index: int) -> bytes:
            raise RuntimeError("the disk is on fire")

    with pytest.raises(RuntimeError, match="fire"):
        Decoder(PixelCache(tmp_path), in_memory_bytes=0).decode(
            dataset(Failing([png(0)])), "train", SPEC
        )
    assert list(tmp_path.iterdir()) == []


def test_the_cache_lies_where_the_desktop_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_folder() == Path("/somewhere/taskroute")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/people/ada")
    assert default_folder() == Path("/people/ada/.cache/taskroute")
