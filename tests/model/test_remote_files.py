from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem

from model import remote_files as module
from model.errors import RepositoryError
from model.remote_files import RemoteFiles


@pytest.fixture
def files() -> RemoteFiles:
    return RemoteFiles(f"memory://{uuid.uuid4().hex}/a/", 5)


def test_what_is_written_is_read(files: RemoteFiles, tmp_path: Path) -> None:
    assert files.read("b/c") is None
    files.write("b/c", b"12")
    (tmp_path / "file").write_bytes(b"345")
    files.upload("b/d/e", tmp_path / "file")
    assert (files.read("b/c"), files.read("b/d/e")) == (b"12", b"345")
    assert {name: file.size for name, file in files.below("b").items()} == {"c": 2, "d/e": 3}
    assert (files.folders(""), files.folders("b"), files.folders("b/d")) == (["b"], ["d"], [])
    files.remove("b/c")
    files.remove("b/c")
    assert list(files.below("b")) == ["d/e"]


def test_nothing_is_below_what_is_not_there(files: RemoteFiles) -> None:
    assert (files.below("b"), files.folders("b")) == ({}, [])


def test_a_name_that_begins_alike_is_another_folder(files: RemoteFiles) -> None:
    files.write("net/1/x", b"")
    files.write("net2/1/x", b"")
    assert list(files.below("net")) == ["1/x"]


def test_an_object_is_created_once(files: RemoteFiles) -> None:
    assert files.create("claim", b"mine")
    assert not files.create("claim", b"another's")
    assert files.create("claim", b"mine")  # asked again, because the answer got lost
    assert files.read("claim") == b"mine"


def test_a_stamp_changes_with_every_write(files: RemoteFiles) -> None:
    files.write("x", b"1")
    first = files.below("")["x"].stamp
    assert files.below("")["x"].stamp == first
    files.write("x", b"2")
    assert files.below("")["x"].stamp != first


def test_a_large_object_comes_in_pieces(
    files: RemoteFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PIECE_BYTES", 4)
    files.write("x", b"0123456789")
    assert list(files.pieces("x", 10)) == [b"0123", b"4567", b"89"]
    assert list(files.pieces("x", 0)) == []
    with pytest.raises(RepositoryError, match="/y vanished while it was read"):
        list(files.pieces("y", 1))


class Hanging(AsyncFileSystem):  # type: ignore[misc]
    """A store that accepts every question and answers none."""

    protocol = "hanging"
    cancelled = 0

    async def _never(self, *_: Any, **__: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            Hanging.cancelled += 1

    _cat_file = _find = _ls = _pipe_file = _put_file = _rm_file = _never


@pytest.fixture
def hanging() -> RemoteFiles:
    fsspec.register_implementation("hanging", Hanging, clobber=True)
    Hanging.cancelled = 0
    return RemoteFiles("hanging://bucket/models", 0.05)


def test_a_store_that_hangs_is_given_up_in_time(hanging: RemoteFiles, tmp_path: Path) -> None:
    asks: dict[str, Callable[[], object]] = {
        "read": lambda: hanging.read("x"),
        "listed": lambda: hanging.below("x"),
        "written": lambda: hanging.write("x", b""),
        "removed": lambda: hanging.remove("x"),
    }
    (tmp_path / "x").write_bytes(b"")
    start = time.monotonic()
    for done, ask in asks.items():
        with pytest.raises(
            RepositoryError, match=rf"^hanging://bucket/models/x cannot be {done}: no answer within"
        ):
            ask()
    with pytest.raises(RepositoryError, match="no answer"):
        hanging.upload("x", tmp_path / "x")
    with pytest.raises(RepositoryError, match="no answer"):
        hanging.folders("")
    with pytest.raises(RepositoryError, match="no answer"):
        list(hanging.pieces("x", 10))
    assert time.monotonic() - start < 5
    assert Hanging.cancelled == 7, "nothing goes on in the background"
