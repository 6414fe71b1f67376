"""A data set's folder: every missing thing is named with where it belongs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.sources.photos import write_photos
from training.errors import DataError
from training.sources.folder import Folder, read_rows


def test_the_first_place_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "Anno").mkdir()
    (tmp_path / "Anno/list.txt").touch()
    folder = Folder("celeba:x", tmp_path)
    assert folder.file("list.txt", "Anno/list.txt") == tmp_path / "Anno/list.txt"
    assert folder.folder("Anno") == tmp_path / "Anno"
    assert folder.below("Anno").path == tmp_path / "Anno"
    assert folder.below("Eval").path == tmp_path


def test_what_is_missing_is_named_with_its_places(tmp_path: Path) -> None:
    folder = Folder("celeba:x", tmp_path)
    with pytest.raises(DataError, match=r"celeba:x: there is no file a, nor b/a in .*official lay"):
        folder.file("a", "b/a")
    with pytest.raises(DataError, match="there is no folder Img in"):
        folder.folder("Img")
    with pytest.raises(DataError, match=r"there is no folder .*nowhere"):
        Folder("celeba:x", tmp_path / "nowhere").file("a")


def test_missing_images_are_counted_and_the_first_named(tmp_path: Path) -> None:
    names = [f"{index}.png" for index in range(8)]
    write_photos(tmp_path, names[:3])
    with pytest.raises(
        DataError,
        match=r"5 of the 8 images that list\.txt lists .*: 3\.png, 4\.png, 5\.png, \.\.\.",
    ):
        Folder("celeba:x", tmp_path).images(tmp_path, names, Path("list.txt"))
    assert len(Folder("celeba:x", tmp_path).images(tmp_path, names[:3], Path("list.txt"))) == 3


def test_rows_have_their_line_numbers(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("header\n1 a\n\n2  b\n")
    assert list(read_rows(path, 2, skip=1)) == [(2, ["1", "a"]), (4, ["2", "b"])]
    with pytest.raises(DataError, match=r"list\.txt, line 1: 1 cells, expected 2"):
        list(read_rows(path, 2))


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"list\.txt: not text in UTF-8"):
        list(read_rows(path, 2))
    with pytest.raises(DataError, match="cannot be read: No such file"):
        list(read_rows(tmp_path / "nowhere.txt", 2))
