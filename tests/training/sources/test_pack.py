"""Image packs: every layout is read, every mistake is named."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.training.conftest import PackMaker, tiny_images
from training.errors import DataError
from training.sources import MISSING, Dataset, SourceOptions, open_source


def read(path: Path, seed: int = 0) -> Dataset:
    return open_source(f"pack:{path}", SourceOptions(split_seed=seed))


def jpegs(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    files = []
    for image in pixels:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG")
        files.append(buffer.getvalue())
    return np.frombuffer(b"".join(files), np.uint8), np.cumsum([0, *map(len, files)])


def test_attributes_and_raw_images(make_pack: PackMaker) -> None:
    dataset = read(make_pack())
    assert dataset.tasks.names == ("bright", "shade::light", "left")
    assert [task.group for task in dataset.tasks] == ["attribute", "shade", "attribute"]
    assert dataset.counts() == {"train": 24, "val": 8, "test": 8}
    pixels = dataset.images.read(3)
    assert isinstance(pixels, np.ndarray)
    assert (pixels == tiny_images(40).pixels[3]).all()


def test_jpeg_bytes_with_offsets(make_pack: PackMaker) -> None:
    jpeg, offsets = jpegs(tiny_images(40).pixels)
    names = np.array([f"{index}.jpg" for index in range(40)])
    dataset = read(make_pack(images=None, jpeg=jpeg, offsets=offsets, names=names))
    data = dataset.images.read(39)
    assert isinstance(data, bytes)
    assert Image.open(io.BytesIO(data)).size == (28, 28)
    assert dataset.images.name(39) == "39.jpg"


def test_missing_attributes(make_pack: PackMaker) -> None:
    attr = np.zeros((40, 3), dtype=np.int16)
    attr[0], attr[1] = 255, -1
    labels = read(make_pack(attr=attr)).labels
    assert labels[0].tolist() == labels[1].tolist() == [MISSING] * 3
    assert (labels[2:] == 0).all()


def test_classes_become_a_category_and_one_task_each(make_pack: PackMaker) -> None:
    y = np.arange(40) % 3
    names = np.array(["cat", "dog", "emu"])
    dataset = read(make_pack(attr=None, attr_names=None, y=y, class_names=names))
    assert dataset.tasks.names == ("category", "cat", "dog", "emu")
    assert dataset.tasks[0].classes == ("cat", "dog", "emu")
    assert dataset.labels[4].tolist() == [1, 0, 1, 0]


def test_classes_beside_attributes_are_one_task(make_pack: PackMaker) -> None:
    y = np.arange(40) % 3
    dataset = read(make_pack(y=y, class_names=np.array(["cat", "dog", "emu"])))
    assert dataset.tasks.names == ("bright", "shade::light", "left", "category")


def test_one_array_per_split(make_pack: PackMaker) -> None:
    pixels = tiny_images(100).pixels
    dataset = read(
        make_pack(
            images=None,
            attr=None,
            attr_names=None,
            split=None,
            x_train=pixels[:80],
            y_train=np.arange(80) % 2,
            x_test=pixels[80:],
            y_test=np.ones(20, dtype=np.uint8),
            class_names=np.array(["cat", "dog"]),
        )
    )
    assert dataset.counts()["test"] == 20
    assert dataset.counts()["val"] > 0
    assert dataset.counts()["train"] + dataset.counts()["val"] == 80
    assert dataset.split[80:].tolist() == ["test"] * 20
    assert "drawn" in dataset.notes[0]
    assert (dataset.labels[80:, 0] == 1).all()


def test_no_split_at_all_is_drawn_from_its_seed(make_pack: PackMaker) -> None:
    path = make_pack(split=None)
    first = read(path, seed=1)
    assert first.split.tolist() == read(path, seed=1).split.tolist()
    assert first.split.tolist() != read(path, seed=2).split.tolist()
    assert min(first.counts().values()) > 0


def test_a_split_group_is_never_on_two_sides(make_pack: PackMaker) -> None:
    person = np.arange(40) % 20
    dataset = read(make_pack(split=None, split_group=person))
    assert min(dataset.counts().values()) > 0
    assert (dataset.split[:20] == dataset.split[20:]).all()
    with pytest.raises(
        DataError, match=r"image #24: 'val', but '4' is in 'train' too .*image #4\)"
    ):
        read(make_pack(split_group=person))


def test_the_digest_is_that_of_the_file(make_pack: PackMaker) -> None:
    one, other = make_pack("one.npz"), make_pack("other.npz", images=tiny_images(40, seed=9).pixels)
    assert read(one).digest == read(one).digest != read(other).digest


Y = np.zeros(40, dtype=np.int64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "no images: expected `jpeg`"),
        ({"attr": None, "attr_names": None}, "no tasks left"),
        ({"attr_names": None}, "`attr` without `attr_names`"),
        ({"attr": np.full((40, 3), 7)}, r"`attr` of image 0 is 7 for 'bright'"),
        ({"attr": np.zeros((39, 3), np.uint8)}, r"`attr` has shape \(39, 3\).*\(40, 3\)"),
        ({"attr_names": np.array(["a", "b,c", "d"])}, "`attr_names`: 'b,c' is no name: no comma"),
        ({"y": Y, "class_names": np.array(["a"])}, "`class_names`: task 'category' has 1 class"),
        (
            {"attr": None, "attr_names": None, "y": Y, "class_names": np.array(["a, b", "c"])},
            "`class_names`: 'a, b' is no name: no comma",
        ),
        ({"attr_names": np.array(["a", "a", "d"])}, "occur twice: a"),
        ({"y": Y}, "`y` without `class_names`"),
        (
            {"y": Y + 2, "class_names": np.array(["a", "b"])},
            "`y` of image 0 is 2, outside its classes",
        ),
        ({"y": Y - 2, "class_names": np.array(["a", "b"])}, "`y` of image 0 is -2, outside"),
        ({"y": Y[:9], "class_names": np.array(["a", "b"])}, r"`y` has shape \(9,\)"),
        ({"split_group": np.zeros(39)}, r"`split_group` has shape \(39,\); expected one entry"),
        ({"split": np.zeros((40, 1))}, r"`split` has shape \(40, 1\) and type float64"),
        ({"split": np.array(["train"] * 39)}, "`split` has 39 entries for 40 images"),
        ({"split": np.array(["train"] * 39 + ["dev"])}, r"`split` holds \['dev'\]"),
        ({"split": np.array(["train"] * 39 + ["trainval"])}, r"`split` holds \['trainval'\]"),
        ({"y": Y + 65536, "class_names": np.array(["a", "b"])}, "`y` holds class 65536"),
        ({"images": np.zeros((40, 28, 28, 4), np.uint8)}, r"`images` has shape .*expected uint8"),
        ({"images": np.zeros((40, 28, 28), np.float32)}, "expected uint8"),
        ({"images": None, "jpeg": np.zeros(9, np.uint8)}, "`jpeg` needs `offsets`"),
        (
            {"images": None, "jpeg": np.zeros(9, np.uint8), "offsets": np.array([0, 5, 20])},
            "run from 0 to 20 and must rise within the 9 bytes",
        ),
    ],
)
def test_mistakes(make_pack: PackMaker, changes: dict[str, Any], message: str) -> None:
    path = make_pack(**changes)
    with pytest.raises(Exception, match=message) as caught:
        read(path)
    assert isinstance(caught.value, DataError)


def test_python_objects_are_refused(make_pack: PackMaker) -> None:
    path = make_pack(attr_names=np.array([{"not": "a name"}] * 3, dtype=object))
    with pytest.raises(DataError, match=r"pack\.npz: not a readable \.npz image pack"):
        read(path)


def test_a_damaged_compressed_array(tmp_path: Path) -> None:
    path = tmp_path / "pack.npz"
    np.savez_compressed(path, images=np.random.default_rng(0).integers(0, 9, 9999, dtype=np.uint8))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 99] = bytes(99)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"pack\.npz: not a readable \.npz image pack"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.npz"):
        read(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.npz: no such file"):
        read(tmp_path / "nowhere.npz")
