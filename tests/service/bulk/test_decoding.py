"""Batches: their order, their borders, and how much waits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from model.config import PreprocessConfig
from model.preprocess import ImageLimits
from service.bulk.decoding import BatchReader
from service.bulk.errors import BulkError
from service.bulk.inputs import LocalPlace, parts
from tests.service.bulk.photos import contents, write_folder
from tests.service.pictures import picture


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[BatchReader]:
    write_folder(tmp_path, contents(11))
    spec = PreprocessConfig(height=28, width=28)
    made = BatchReader(LocalPlace(tmp_path), spec, ImageLimits(), threads=2, ahead=4)
    yield made
    made.close()


def test_batches_keep_the_order_and_end_with_their_part(
    reader: BatchReader, tmp_path: Path
) -> None:
    found = list(reader.batches(parts(str(tmp_path), 6), 4))
    assert [(b.part.index, len(b.images), b.last) for b in found] == [
        (0, 4, False),
        (0, 2, True),
        (1, 4, False),
        (1, 1, True),
    ]
    names = [image.name for batch in found for image in batch.images]
    assert names == [f"{index:05}.png" for index in range(11)]


def test_a_part_that_is_a_whole_number_of_batches(reader: BatchReader, tmp_path: Path) -> None:
    found = list(reader.batches(parts(str(tmp_path), 100), 11))
    assert [(len(batch.images), batch.last) for batch in found] == [(11, True)]


def test_what_cannot_be_decoded_has_its_error(reader: BatchReader, tmp_path: Path) -> None:
    (batch,) = reader.batches(parts(str(tmp_path), 100), 100)
    wrong = [image.name for image in batch.images if not isinstance(image.pixels, np.ndarray)]
    assert wrong == ["00002.png", "00005.png"]


def test_a_fault_of_the_place_is_no_fault_of_an_image(
    reader: BatchReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(LocalPlace, "read", away)
    with pytest.raises(BulkError, match=r"00000\.png of the input cannot be read: .*Input/output"):
        list(reader.batches(parts(str(tmp_path), 100), 4))


def test_no_more_than_so_many_images_are_read_ahead(
    reader: BatchReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def counted(_: LocalPlace, name: str, limits: ImageLimits) -> bytes:
        read.append(name)
        return picture(seed=0)

    monkeypatch.setattr(LocalPlace, "read", counted)
    batches = reader.batches(parts(str(tmp_path), 100), 2)
    next(iter(batches))
    # Two in the batch, the first of the next one, and four ahead.
    assert len(read) <= 2 + 1 + 4 + 1
