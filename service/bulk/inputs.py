"""Where images come from: a directory, tar shards, or the same in an object store.

The kind is seen from what is there: names that end in ``.tar`` are shards, one part each, read from
front to back (webdataset's layout; what is no image by its name, a label for example, is passed
over). Anything else is image files, as deep as the folder goes, in the order of their names.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Protocol

from pydantic import BaseModel, ConfigDict

from model.errors import InvalidImageError
from service.bulk.errors import BulkError, BulkUsageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_TAR = ".tar"


class Part(BaseModel):
    """What one output file is made from."""

    model_config = ConfigDict(frozen=True)

    index: int
    files: tuple[str, ...] = ()
    """Image files, below the input."""
    shard: str | None = None
    """A tar file, below the input; its images are not counted yet."""


@dataclass(frozen=True)
class Source:
    """One image of a part: its name, and how to get its bytes."""

    name: str
    read: Callable[[], bytes]
    """Raises ImageError for what is this image's fault, OSError for what is not."""


class Place(Protocol):
    """A folder somewhere."""

    def list(self) -> Iterator[str]:
        """Every file below it, in a fixed order, relative to it."""
        ...

    def read(self, name: str) -> bytes:
        """A file's bytes.

        Raises:
            FileNotFoundError, OSError
        """
        ...

    def open(self, name: str) -> IO[bytes]:
        """A file, to be read once from front to back."""
        ...


class LocalPlace:
    """A directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def list(self) -> Iterator[str]:
        yield from _walk(self._root, "")

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def open(self, name: str) -> IO[bytes]:
        return (self._root / name).open("rb")


class RemotePlace:
    """A prefix of an object store, by fsspec: ``s3://bucket/prefix``, ``gs://...``."""

    def __init__(self, url: str) -> None:
        try:
            import fsspec
        except ImportError as error:
            raise BulkUsageError(
                f"--input {url}: reading from an object store needs fsspec: install the extra bulk"
            ) from error
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:  # the store's own package
            raise BulkUsageError(f"--input {url}: {error}") from error
        self._root = self._root.rstrip("/")

    def list(self) -> Iterator[str]:
        for path in sorted(self._files.find(self._root)):
            yield str(path).removeprefix(self._root).lstrip("/")

    def read(self, name: str) -> bytes:
        data: bytes = self._files.cat_file(f"{self._root}/{name}")
        return data

    def open(self, name: str) -> IO[bytes]:
        file: IO[bytes] = self._files.open(f"{self._root}/{name}", "rb")
        return file


def open_place(source: str) -> tuple[Place, str | None]:
    """The folder that ``source`` names; and the one tar file in it, where it names a file.

    Raises:
        BulkUsageError: nothing is there, or it cannot be reached with what is installed.
    """
    only = None
    if source.endswith(_TAR):
        source, _, only = source.rpartition("/")
        source = source or "."
    if "://" in source:
        return RemotePlace(source), only
    root = Path(source)
    if not root.is_dir():
        raise BulkUsageError(
            f"--input {source}: no such directory; it takes a directory of images or of tar "
            "shards, one tar file, or a URL of an object store (s3://bucket/prefix)"
        )
    return LocalPlace(root), only


def parts(source: str, images_per_part: int) -> Iterator[Part]:
    """The input, cut into parts.

    Raises:
        BulkUsageError: no image and no tar shard is there.
        BulkError: it cannot be listed.
    """
    place, only = open_place(source)
    try:
        names = iter([only]) if only else place.list()
        yield from _cut(names, images_per_part, source)
    except OSError as error:
        raise BulkError(f"--input {source} cannot be listed: {error}") from error


def sources(place: Place, part: Part) -> Iterator[Source]:
    """The images of ``part``, in order.

    Raises:
        OSError: a shard cannot be read now; no fault of an image.
    """
    if part.shard is not None:
        yield from _members(place, part.shard)
    for name in part.files:
        yield Source(name, partial(_read, place, name))


def _read(place: Place, name: str) -> bytes:
    try:
        return place.read(name)
    except FileNotFoundError:
        raise InvalidImageError("the file was listed, but is gone") from None


def _cut(names: Iterator[str], images_per_part: int, source: str) -> Iterator[Part]:
    index = passed_over = 0
    files: list[str] = []
    shards: list[str] = []
    for name in names:
        kind = os.path.splitext(name)[1].lower()
        if kind == _TAR:
            shards.append(name)
        elif kind in SUFFIXES:
            files.append(name)
        else:
            passed_over += 1
        if shards and (files or index):
            raise BulkUsageError(
                f"--input {source} holds image files as well as tar shards ({shards[0]}): name the "
                "folder of either"
            )
        if len(files) == images_per_part:
            yield Part(index=index, files=tuple(files))
            index, files = index + 1, []
    if files:
        yield Part(index=index, files=tuple(files))
    for index, shard in enumerate(shards):
        yield Part(index=index, shard=shard)
    if not (files or shards or index):
        raise BulkUsageError(
            f"--input {source} holds no image ({', '.join(SUFFIXES)}) and no tar shard; "
            f"{passed_over} other files were passed over"
        )


def _members(place: Place, shard: str) -> Iterator[Source]:
    """Names are SHARD/MEMBER, so that they differ between shards."""
    count = 0
    try:
        with place.open(shard) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            for member in archive:
                if not member.isfile() or not member.name.lower().endswith(SUFFIXES):
                    continue
                content = archive.extractfile(member)
                data = content.read() if content is not None else b""
                yield Source(f"{shard}/{member.name}", partial(bytes, data))
                count += 1
    except FileNotFoundError:
        yield Source(shard, partial(_refuse, "the shard was listed, but is gone"))
    except (tarfile.TarError, EOFError) as error:
        reason = f"the shard is damaged after {count} images: {error}"
        yield Source(shard, partial(_refuse, reason))


def _refuse(reason: str) -> bytes:
    raise InvalidImageError(reason)


def _walk(root: Path, below: str) -> Iterator[str]:
    """Names in the order of their text, a folder at a time: only one folder's names in memory."""
    with os.scandir(root / below) as entries:
        found = sorted((entry.name, entry.is_dir()) for entry in entries)
    for name, is_folder in found:
        path = f"{below}/{name}" if below else name
        if is_folder:
            yield from _walk(root, path)
        else:
            yield path
