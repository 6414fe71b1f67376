"""Unreadable images: listed whole, named in part, and no more of them than was allowed."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from training.decoding import Unreadable
from training.errors import DataError
from training.unreadable import UnreadableImages

FOUND = [Unreadable(f"{index}.png", "the file is empty") for index in range(5)]


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_all_are_listed_and_the_first_named(tmp_path: Path) -> None:
    path = tmp_path / "run/unreadable.csv"
    unreadable = UnreadableImages(listing=path)
    assert unreadable.report("csv:x", "train", 50, FOUND) == (
        "5 of 50 train images cannot be read and are left out: 0.png (the file is empty), 1.png "
        f"(the file is empty), 2.png (the file is empty), ...; all are listed in {path}"
    )
    unreadable.report("csv:x", "val", 10, [Unreadable('a, "b".png', "cut off")])
    assert rows(path) == [
        ["split", "image", "reason"],
        *(["train", one.name, one.reason] for one in FOUND),
        ["val", 'a, "b".png', "cut off"],
    ]


def test_a_new_run_begins_a_new_list(tmp_path: Path) -> None:
    path = tmp_path / "unreadable.csv"
    UnreadableImages(listing=path).report("csv:x", "train", 50, FOUND)
    again = UnreadableImages(listing=path)
    again.begin()
    assert not path.exists()
    again.report("csv:x", "train", 50, FOUND[:1])
    assert len(rows(path)) == 2


def test_too_many_stop_the_run_and_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "unreadable.csv"
    with pytest.raises(
        DataError,
        match=r"csv:x: 5 of 49 train images cannot be read, more than the share of 0\.1 that "
        r"'max_unreadable_share' allows: 0\.png .*unreadable\.csv\. Repair those files, or raise",
    ):
        UnreadableImages(listing=path).report("csv:x", "train", 49, FOUND)
    assert len(rows(path)) == 6
    assert "left out" in UnreadableImages(0.2).report("csv:x", "train", 49, FOUND)
    with pytest.raises(DataError, match="more than the share of 0 that"):
        UnreadableImages(0.0).report("csv:x", "train", 1000, FOUND[:1])


def test_not_one_readable_image_stops_every_run() -> None:
    with pytest.raises(DataError, match=r"none of the 5 test images can be read: 0\.png"):
        UnreadableImages(1.0).report("csv:x", "test", 5, FOUND)


def test_a_list_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(DataError, match=r"unreadable\.csv: the list of unreadable images cannot"):
        UnreadableImages(listing=tmp_path / "run/unreadable.csv").report("x", "train", 50, FOUND)
