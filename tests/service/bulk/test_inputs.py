"""What is found where, how it is cut into parts, and what is damaged or gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.errors import InvalidImageError
from service.bulk.errors import BulkError, BulkUsageError
from service.bulk.inputs import Part, open_place, parts, sources
from tests.service.bulk.photos import write_folder, write_shard


def read(source: str, part: Part) -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    for image in sources(open_place(source)[0], part):
        try:
            found[image.name] = image.read()
        except InvalidImageError as error:
            found[image.name] = str(error)
    return found


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


def test_an_object_store_is_read_like_a_folder(tmp_path: Path) -> None:
    import fsspec

    files = fsspec.filesystem("memory")
    for name in ("x/2.jpg", "x/1.jpg", "x/readme.md"):
        files.pipe(f"/bulk-inputs/{name}", name.encode())
    (part,) = parts("memory://bulk-inputs/x", 10)
    assert part.files == ("1.jpg", "2.jpg")
    assert read("memory://bulk-inputs/x", part) == {"1.jpg": b"x/1.jpg", "2.jpg": b"x/2.jpg"}


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
