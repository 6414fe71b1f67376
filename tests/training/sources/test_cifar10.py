"""CIFAR-10's Python version: batches pickled by Python 2, in a folder or in the archive."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from training.errors import DataError
from training.sources import Dataset, open_source

CLASSES = [b"airplane", b"automobile", b"bird", b"cat", b"deer"]
CLASSES += [b"dog", b"frog", b"horse", b"ship", b"truck"]
PER_BATCH = 20


def python2_pickle(value: Any) -> bytes:
    """The bytes that Python 2's cPickle wrote: protocol 2, texts as byte strings."""
    return b"\x80\x02" + _pickled(value) + b"."


def _pickled(value: Any) -> bytes:
    if isinstance(value, bytes):
        return _string(value)
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(_pickled, value)) + b"e"
    if isinstance(value, dict):
        items = b"".join(_pickled(key) + _pickled(entry) for key, entry in value.items())
        return b"}(" + items + b"u"
    assert isinstance(value, np.ndarray)
    new = b"cnumpy.core.multiarray\n_reconstruct\n"
    new += b"cnumpy\nndarray\n" + b"K\x00\x85" + _string(b"b") + b"\x87R"
    dtype = b"cnumpy\ndtype\n" + _string(b"u1") + b"K\x00K\x01\x87R"
    dtype += b"(K\x03" + _string(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"".join(map(_pickled, value.shape)) + (b"\x86" if value.ndim == 2 else b"\x85")
    return new + b"(K\x01" + shape + dtype + b"\x89" + _string(value.tobytes()) + b"tb"


def _string(text: bytes) -> bytes:
    if len(text) < 256:
        return b"U" + bytes([len(text)]) + text
    return b"T" + struct.pack("<i", len(text)) + text


def pixels(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (PER_BATCH, 3072), dtype=np.uint8)


def batch(seed: int, **changes: Any) -> dict[bytes, Any]:
    content = {
        "batch_label": b"training batch",
        "labels": [(seed + index) % 10 for index in range(PER_BATCH)],
        "data": pixels(seed),
        "filenames": [b"leptodactylus_pentadactylus_s_%06d.png" % i for i in range(PER_BATCH)],
    } | changes
    return {name.encode(): value for name, value in content.items()}


def files() -> dict[str, bytes]:
    meta = {b"num_cases_per_batch": PER_BATCH, b"label_names": CLASSES, b"num_vis": 3072}
    batches = {f"data_batch_{number}": batch(number) for number in range(1, 6)}
    everything = {"batches.meta": meta, **batches, "test_batch": batch(6)}
    return {name: python2_pickle(value) for name, value in everything.items()}


def write_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, content in files().items():
        (folder / name).write_bytes(content)
    return folder


def write_archive(path: Path, contents: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        folder = tarfile.TarInfo("cifar-10-batches-py")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in contents.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def read(root: Path) -> Dataset:
    return open_source(f"cifar10:{root}")


def test_images_labels_and_the_official_split(tmp_path: Path) -> None:
    dataset = read(write_folder(tmp_path / "cifar-10-batches-py"))
    assert dataset.tasks.names == ("category", *(name.decode() for name in CLASSES))
    assert dataset.labels[:PER_BATCH, 0].tolist() == [(1 + i) % 10 for i in range(PER_BATCH)]
    assert (dataset.labels[:, 1:] == np.eye(10)[dataset.labels[:, 0]]).all()
    image = dataset.images.read(2 * PER_BATCH + 5)
    assert isinstance(image, np.ndarray)
    assert image.shape == (32, 32, 3)
    red, _, blue = pixels(3)[5].reshape(3, 32, 32)
    assert (image[..., 0] == red).all()
    assert (image[..., 2] == blue).all()
    assert dataset.split[5 * PER_BATCH :].tolist() == ["test"] * PER_BATCH
    assert dataset.counts()["test"] == PER_BATCH
    assert dataset.counts()["val"] > 0


def test_the_archive_is_read_as_it_is(tmp_path: Path) -> None:
    expected = read(write_folder(tmp_path / "unpacked/cifar-10-batches-py"))
    archive = write_archive(tmp_path / "cifar-10-python.tar.gz", files())
    for root in (archive, tmp_path, tmp_path / "unpacked"):
        dataset = read(root)
        assert (dataset.labels == expected.labels).all()
        assert dataset.digest == expected.digest
        assert np.array_equal(dataset.images.read(7), expected.images.read(7))


def test_pickles_of_today_are_read_too(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "cifar-10-batches-py")
    expected = read(folder)
    for number in range(1, 6):
        data = pickle.dumps(batch(number), protocol=2)
        (folder / f"data_batch_{number}").write_bytes(data)
    assert (read(folder).labels == expected.labels).all()


class _Harmful:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.path,)


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "cifar-10-batches-py")
    trace = tmp_path / "it ran"
    (folder / "data_batch_2").write_bytes(pickle.dumps(_Harmful(trace), protocol=2))
    with pytest.raises(DataError, match="data_batch_2 is no batch of CIFAR-10: it asks for "):
        read(folder)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("test_batch", None, "there is no file test_batch in"),
        ("test_batch", b"", "test_batch is no batch of CIFAR-10"),
        ("test_batch", b"nonsense", "test_batch is no batch of CIFAR-10"),
        ("test_batch", python2_pickle(batch(6))[:-900], "test_batch is no batch of CIFAR-10"),
        ("test_batch", python2_pickle([1]), "it holds a list"),
        ("test_batch", python2_pickle(batch(6, labels=[1, 2])), "holds 20 images and 2 labels"),
        ("test_batch", python2_pickle(batch(6, labels=[10] * 20)), "label 10; .* names 10 classes"),
        ("test_batch", python2_pickle(batch(6, data=pixels(1)[:, 1:])), "rows of 3071 bytes"),
        ("test_batch", python2_pickle(batch(6, data=[1])), "no array `data`"),
        ("batches.meta", python2_pickle({b"num_vis": 3072}), "no list `label_names`"),
    ],
)
def test_mistakes(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    folder = write_folder(tmp_path / "cifar-10-batches-py")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(folder)


def test_broken_archives_are_named(tmp_path: Path) -> None:
    contents = files()
    del contents["data_batch_3"]
    archive = write_archive(tmp_path / "cifar-10-python.tar.gz", contents)
    with pytest.raises(DataError, match="holds no cifar-10-batches-py/data_batch_3"):
        read(archive)
    archive.write_bytes(archive.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz cannot be read"):
        read(archive)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder .*nowhere"):
        read(tmp_path / "nowhere")
