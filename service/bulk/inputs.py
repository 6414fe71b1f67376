"""Where images come from: a directory, tar shards, or the same in an object store.

The kind is seen from what is there: names that end in ``.tar`` are shards, one part each, read from
front to back (webdataset's layout; what is no image by its name, a label for example, is passed
over). Anything else is image files, as deep as the folder goes, in the order of their names.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

from pydantic import BaseModel, ConfigDict

from model.errors import InvalidImageError
from model.location import is_url, local_path
from model.preprocess import ImageLimits
from service.bulk.errors import BulkError, BulkUsageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_TAR = ".tar"
_STREAM_BYTES = 2**18


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
    """Raises ImageError for what is this image's fault, BulkError for what is not."""


class Place(Protocol):
    """A folder somewhere."""

    def list(self) -> Iterator[str]:
        """Every file below it, in a fixed order, relative to it."""
        ...

    def read(self, name: str, limits: ImageLimits) -> bytes:
        """A file's bytes.

        Raises:
            ImageTooLargeError: nothing was read.
            FileNotFoundError, OSError
        """
        ...

    def open(self, name: str) -> IO[bytes]:
        """A file, to be read once from front to back.

        Raises:
            FileNotFoundError, OSError: from here and from its ``read``.
        """
        ...

    def check(self) -> None:
        """Raise OSError where nothing is any more: not mounted, say."""
        ...


class LocalPlace:
    """A directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def list(self) -> Iterator[str]:
        yield from _walk(self._root, "")

    def read(self, name: str, limits: ImageLimits) -> bytes:
        with self.open(name) as file:
            limits.check_bytes(os.fstat(file.fileno()).st_size)
            return file.read()

    def check(self) -> None:
        with os.scandir(self._root) as entries:
            if next(entries, None) is None:
                raise OSError(f"{self._root} is empty; is it mounted?")

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
            # A cache of the listing would only be a second copy of millions of names.
            self._files, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:  # the store's own package
            raise BulkUsageError(f"--input {url}: {error}") from error
        self._root = self._root.rstrip("/")

    def list(self) -> Iterator[str]:
        with _store_errors():
            found = sorted(self._files.find(self._root))
        for path in found:
            yield str(path).removeprefix(self._root).lstrip("/")

    def read(self, name: str, limits: ImageLimits) -> bytes:
        # Asking for the size first would be a second request for every image.
        with _store_errors():
            data: bytes = self._files.cat_file(f"{self._root}/{name}")
        limits.check_bytes(len(data))
        return data

    def check(self) -> None:
        with _store_errors():
            if not self._files.exists(self._root):
                raise OSError("nothing is there any more below the input's prefix")

    def open(self, name: str) -> IO[bytes]:
        with _store_errors():
            file = self._files.open(f"{self._root}/{name}", "rb")
        return io.BufferedReader(_RemoteStream(file), _STREAM_BYTES)


class _RemoteStream(io.RawIOBase):
    """A file of an object store, read from front to back."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _store_errors():
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def _store_errors() -> Iterator[None]:
    """Every store has errors of its own, no credentials and no connection among them."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(" ".join(str(error).split()) or type(error).__name__) from error


def absolute(source: str) -> str:
    """The same for a process that runs elsewhere."""
    return source if is_url(source) else str(local_path(source).absolute())


def open_place(source: str) -> tuple[Place, str | None]:
    """The folder that ``source`` names; and the one tar file in it, where it names a file.

    Raises:
        BulkUsageError: nothing is there, or it cannot be reached with what is installed.
    """
    only = None
    if source.endswith(_TAR):
        source, _, only = source.rpartition("/")
        source = source or "."
    if is_url(source):
        return RemotePlace(source), only
    root = local_path(source)
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


def sources(place: Place, part: Part, limits: ImageLimits) -> Iterator[Source]:
    """The images of ``part``, in order.

    Raises:
        BulkError: a shard cannot be read now; no fault of an image.
    """
    if part.shard is not None:
        with _unreadable(part.shard):
            yield from _members(place, part.shard, limits)
    for name in part.files:
        yield Source(name, partial(_read, place, name, limits))


def _read(place: Place, name: str, limits: ImageLimits) -> bytes:
    with _unreadable(name):
        try:
            return place.read(name, limits)
        except FileNotFoundError:
            place.check()
            raise InvalidImageError("the file was listed, but is gone") from None


@contextmanager
def _unreadable(name: str) -> Iterator[None]:
    """A disk, a network or a permission: a job that took it for the images' fault would fill its
    output with errors."""
    try:
        yield
    except OSError as error:
        raise BulkError(
            f"stopped: {name} of the input cannot be read: {error or type(error).__name__}; the "
            "same command goes on when it can be, or is removed (it then has an error in the "
            "output)"
        ) from error


def _cut(names: Iterator[str], images_per_part: int, source: str) -> Iterator[Part]:
    index = passed_over = 0
    files: list[str] = []
    shards: list[str] = []
    for name in names:
        _check_name(name, source)
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


def _check_name(name: str, source: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise BulkUsageError(
            f"--input {source}: the name {name!r} is not UTF-8, so that it cannot be written to "
            "the output: rename the file (convmv renames whole folders)"
        ) from None


def _members(place: Place, shard: str, limits: ImageLimits) -> Iterator[Source]:
    """Names are SHARD/MEMBER, so that they differ between shards."""
    count = 0
    try:
        with (
            place.open(shard) as file,
            tarfile.open(fileobj=file, mode="r|*", errors="backslashreplace") as archive,
        ):
            for member in archive:
                if not member.isfile() or not member.name.lower().endswith(SUFFIXES):
                    continue
                content = archive.extractfile(member)
                fits = member.size <= limits.max_bytes  # else it is not read into memory
                data = content.read() if content is not None and fits else b""
                name = f"{shard}/{member.name}"
                yield Source(name, partial(_member, data, member.size, limits))
                count += 1
    except FileNotFoundError:
        place.check()
        yield Source(shard, partial(_refuse, "the shard was listed, but is gone"))
    except (tarfile.TarError, EOFError) as error:
        reason = f"the shard is damaged after {count} images: {error}"
        yield Source(shard, partial(_refuse, reason))


def _member(data: bytes, size: int, limits: ImageLimits) -> bytes:
    limits.check_bytes(size)
    return data


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
