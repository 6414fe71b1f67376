"""What is found where, how it is cut into parts, and what is damaged or gone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from model.errors import ImageError
from model.preprocess import ImageLimits
from service.bulk.errors import BulkError, BulkUsageError
from service.bulk.inputs import Part, open_place, parts, sources
from tests.service.bulk.photos import write_folder, write_shard


def read(source: str, part: Part, limits: ImageLimits | None = None) -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    for image in sources(open_place(source)[0], part, limits or ImageLimits()):
        try:
            found[image.name] = image.read()
        except ImageError as error:
            found[image.name] = str(error)
    return found


@pytest.fixture
def store() -> Iterator[Any]:
    """An object store in memory, with two photos below memory://bulk-inputs/x."""
    import fsspec

    files = fsspec.filesystem("memory")
    for name in ("x/2.jpg", "x/1.jpg", "x/readme.md"):
        files.pipe(f"/bulk-inputs/{name}", name.encode())
    yield files
    files.store.clear()
    files.pseudo_dirs.clear()


def test_a_folder_is_walked_in_the_order_of_names_and_cut(tmp_path: Path) -> None:
    names = ["b/2.jpg", "a.PNG", "b/1.jpeg", "c.webp", "notes.txt", "b/deep/0.png"]
    folder = write_folder(tmp_path, {name: name.encode() for name in names})
    found = list(parts(str(folder), 2))
    assert [part.files for part in found] == [
        ("a.PNG", "b/1.jpeg"),
        ("b/2.jpg", "b/deep/0.png"),
        ("c.webp",),
    ]
    assert [part.index for part in found] == [0, 1, 2]
    assert read(str(folder), found[1]) == {"b/2.jpg": b"b/2.jpg", "b/deep/0.png": b"b/deep/0.png"}


def test_a_file_that_is_gone_is_an_image_with_an_error(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a.png": b"1", "b.png": b"2"})
    (part,) = parts(str(tmp_path), 10)
    (tmp_path / "a.png").unlink()
    assert read(str(tmp_path), part) == {"a.png": "the file was listed, but is gone", "b.png": b"2"}


def test_shards_are_a_part_each_and_labels_are_passed_over(tmp_path: Path) -> None:
    for shard in ("1", "0"):
        members = {f"{shard}x.jpg": b"x" + shard.encode(), f"{shard}x.json": b"{}"}
        write_shard(tmp_path / f"{shard}.tar", members)
    found = list(parts(str(tmp_path), 10))
    assert [part.shard for part in found] == ["0.tar", "1.tar"]
    assert read(str(tmp_path), found[1]) == {"1.tar/1x.jpg": b"x1"}
    assert list(parts(str(tmp_path / "1.tar"), 10)) == [Part(index=0, shard="1.tar")]


def test_a_damaged_shard_gives_what_is_whole_and_says_so(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "s.tar", {"a.png": b"1" * 600, "b.png": b"2" * 2000})
    shard.write_bytes(shard.read_bytes()[:2300])
    found = read(str(tmp_path), Part(index=0, shard="s.tar"))
    assert found["s.tar/a.png"] == b"1" * 600
    assert "damaged after 1 images" in str(found["s.tar"])
    assert read(str(tmp_path), Part(index=0, shard="no.tar")) == {
        "no.tar": "the shard was listed, but is gone"
    }


def test_images_over_the_limit_are_not_read(tmp_path: Path) -> None:
    photos = {"a.png": b"1" * 600, "b.png": b"2" * 2000, "c.png": b"3"}
    write_folder(tmp_path / "photos", photos)
    write_shard(tmp_path / "shards/s.tar", photos)
    limits = ImageLimits(max_bytes=1000)
    expected = ["the image has 2000 bytes; the limit is 1000 (max_image_bytes)"]
    for folder in ("photos", "shards"):
        (part,) = parts(str(tmp_path / folder), 10)
        found = read(str(tmp_path / folder), part, limits)
        assert [one for one in found.values() if isinstance(one, str)] == expected
        assert [len(one) for one in found.values() if isinstance(one, bytes)] == [600, 1]


def test_an_object_store_is_read_like_a_folder(store: Any) -> None:
    (part,) = parts("memory://bulk-inputs/x", 10)
    assert part.files == ("1.jpg", "2.jpg")
    assert read("memory://bulk-inputs/x", part) == {"1.jpg": b"x/1.jpg", "2.jpg": b"x/2.jpg"}
    store.rm("/bulk-inputs/x/1.jpg")
    assert read("memory://bulk-inputs/x", part) == {
        "1.jpg": "the file was listed, but is gone",
        "2.jpg": b"x/2.jpg",
    }
    limits = ImageLimits(max_bytes=3)
    assert "the image has 7 bytes" in str(read("memory://bulk-inputs/x", part, limits)["2.jpg"])


def test_shards_of_an_object_store_are_streamed(store: Any, tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "0.tar", {"a.jpg": b"1" * 300_000, "b.jpg": b"2"})
    store.pipe("/bulk-inputs/y/0.tar", shard.read_bytes())
    (part,) = parts("memory://bulk-inputs/y", 10)
    found = read("memory://bulk-inputs/y", part)
    assert found == {"0.tar/a.jpg": b"1" * 300_000, "0.tar/b.jpg": b"2"}


class StoreError(Exception):
    """As every store has its own."""


@pytest.mark.parametrize(
    ("method", "step"),
    [
        ("find", lambda: list(parts("memory://bulk-inputs/x", 10))),
        ("cat_file", lambda: read("memory://bulk-inputs/x", Part(index=0, files=("1.jpg",)))),
        ("open", lambda: read("memory://bulk-inputs/x", Part(index=0, shard="0.tar"))),
    ],
)
@pytest.mark.usefixtures("store")
def test_a_store_that_fails_stops_the_job_and_blames_no_image(
    monkeypatch: pytest.MonkeyPatch, method: str, step: Callable[[], object]
) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    def fails(*_: object, **__: object) -> None:
        raise StoreError("Unable to locate\n credentials")

    monkeypatch.setattr(MemoryFileSystem, method, fails)
    with pytest.raises(BulkError, match="Unable to locate credentials"):
        step()


def test_an_input_that_is_gone_altogether_stops_the_job(store: Any, tmp_path: Path) -> None:
    photos = write_folder(tmp_path / "photos", {"a.png": b"1"})
    shards = write_shard(tmp_path / "shards/0.tar", {"a.png": b"1"}).parent
    for folder in (photos, shards):
        (part,) = parts(str(folder), 10)
        for file in folder.iterdir():
            file.unlink()
        with pytest.raises(BulkError, match="is it mounted"):
            read(str(folder), part)
    (part,) = parts("memory://bulk-inputs/x", 10)
    store.rm("/bulk-inputs/x", recursive=True)
    with pytest.raises(BulkError, match="nothing is there any more"):
        read("memory://bulk-inputs/x", part)


def test_a_name_that_is_not_utf_8_is_refused_in_a_folder_and_escaped_in_a_shard(
    tmp_path: Path,
) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    shard = write_shard(tmp_path / "shards/0.tar", {name: b"1"}).parent
    assert read(str(shard), Part(index=0, shard="0.tar")) == {"0.tar/caf\\xe9.jpg": b"1"}
    write_folder(tmp_path / "photos", {name: b"1"})
    with pytest.raises(BulkUsageError, match=r"'caf\\udce9\.jpg' is not UTF-8.* rename the file"):
        list(parts(str(tmp_path / "photos"), 10))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.txt": b"", "b.csv": b""}, "no image .* 2 other files"),
        ({"a.png": b"", "b.tar": b""}, "image files as well as tar shards"),
        ({"a.tar": b"", "b.png": b""}, "image files as well as tar shards"),
    ],
)
def test_inputs_that_cannot_be_are_refused(
    tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    write_folder(tmp_path, files)
    with pytest.raises(BulkUsageError, match=message):
        list(parts(str(tmp_path), 10))


def test_no_such_folder_scheme_or_bucket(tmp_path: Path) -> None:
    with pytest.raises(BulkUsageError, match="no such directory"):
        list(parts(str(tmp_path / "nowhere"), 10))
    with pytest.raises(BulkUsageError, match="nothing"):
        list(parts("nothing://x/y", 10))
    with pytest.raises((BulkError, BulkUsageError)):
        list(parts("memory://bulk-nowhere/x", 10))
