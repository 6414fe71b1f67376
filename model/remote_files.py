"""The few operations on an object store that a repository needs, through fsspec.

Each is bounded in time, so that a store that hangs is an error and not a hanging caller. (File
systems of fsspec that are not asynchronous, ``sftp://`` for one, have time limits of their own.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.asyn import AsyncFileSystem, sync
from fsspec.exceptions import FSTimeoutError

from model.errors import RepositoryError

_PIECE_BYTES = 8 * 2**20
_SLOWEST_UPLOAD_BYTES_PER_S = 2**18


@dataclass(frozen=True)
class RemoteFile:
    """What the store says about one object."""

    size: int
    stamp: str  # differs once it has been written again


class RemoteFiles:
    """Objects below one URL; every path is relative to it.

    Raises:
        RepositoryError: from every method, when the store does not do it in time.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._connected: tuple[Any, str] | None = None
        protocol = url.partition("://")[0]
        try:
            fsspec.get_filesystem_class(protocol)
        except (ImportError, ValueError) as error:
            raise RepositoryError(
                f"{url}: no support for {protocol}:// here ({error}); s3:// and gs:// come with "
                "the extra `remote`: pip install 'taskroute[remote]'",
                repository=url,
            ) from error

    def read(self, path: str) -> bytes | None:
        """A small object's bytes; None without one."""
        try:
            data: bytes = self._call("read", path, "cat_file", passing=FileNotFoundError)
        except FileNotFoundError:
            return None
        return data

    def pieces(self, path: str, size: int) -> Iterator[bytes]:
        """The first ``size`` bytes of an object, a few MB at a time."""
        for start in range(0, size, _PIECE_BYTES):
            end = min(start + _PIECE_BYTES, size)
            try:
                yield self._call(
                    "read", path, "cat_file", passing=FileNotFoundError, start=start, end=end
                )
            except FileNotFoundError as error:
                raise RepositoryError(
                    f"{self.url}/{path} vanished while it was read", path=path
                ) from error

    def below(self, path: str) -> dict[str, RemoteFile]:
        """Every object below a folder, by its path relative to the folder."""
        root = PurePosixPath(self._root(path))
        found: dict[str, dict[str, Any]] = self._call("listed", path, "find", detail=True)
        return {
            str(PurePosixPath(name).relative_to(root)): RemoteFile(about["size"], _stamp(about))
            for name, about in found.items()
            if PurePosixPath(name) != root
        }

    def folders(self, path: str) -> list[str]:
        """Names of the folders directly in a folder; none where there is no such folder."""
        try:
            entries: list[dict[str, Any]] = self._call(
                "listed", path, "ls", passing=FileNotFoundError, detail=True
            )
        except FileNotFoundError:
            return []
        return sorted(
            PurePosixPath(entry["name"]).name for entry in entries if entry["type"] == "directory"
        )

    def write(self, path: str, data: bytes) -> None:
        self._call("written", path, "pipe_file", data)

    def create(self, path: str, data: bytes) -> bool:
        """Write an object that must not be there yet; whether it was this call that did.

        Args:
            data: like no other writer's, so that an answer lost on the way back can be told from
                another's object.
        """
        try:
            self._call("written", path, "pipe_file", data, passing=FileExistsError, mode="create")
        except (FileExistsError, RepositoryError):
            found = self.read(path)
            if found is None:
                raise
            return found == data
        return self.read(path) == data

    def upload(self, path: str, file: Path) -> None:
        """Write an object of any size."""
        seconds = self._timeout_s + file.stat().st_size / _SLOWEST_UPLOAD_BYTES_PER_S
        self._call("written", path, "put_file", source=str(file), timeout_s=seconds)

    def remove(self, path: str) -> None:
        """Remove an object, if it is there."""
        with suppress(FileNotFoundError):
            self._call("removed", path, "rm_file", passing=FileNotFoundError)

    def _root(self, path: str) -> str:
        if self._connected is None:
            self._connected = fsspec.url_to_fs(self.url, use_listings_cache=False)
        root = self._connected[1].rstrip("/")
        return f"{root}/{path}" if path else root

    def _call(
        self,
        done: str,
        path: str,
        method: str,
        *arguments: Any,
        passing: type[Exception] | tuple[()] = (),
        source: str | None = None,
        timeout_s: float | None = None,
        **options: Any,
    ) -> Any:
        """What a method of the file system returns; errors ``passing`` come through as they are."""
        seconds = timeout_s or self._timeout_s
        try:
            full = self._root(path)
            assert self._connected is not None  # noqa: S101 - _root() connects
            files = self._connected[0]
            names = (full,) if source is None else (source, full)
            if isinstance(files, AsyncFileSystem):
                function = getattr(files, f"_{method}")
                return sync(files.loop, function, *names, *arguments, timeout=seconds, **options)
            return getattr(files, method)(*names, *arguments, **options)
        except passing:
            raise
        except Exception as error:  # every store has its own
            where = f"{self.url}/{path}" if path else self.url
            raise RepositoryError(
                f"{where} cannot be {done}: {_reason(error, seconds)}", path=where
            ) from error


def _stamp(about: dict[str, Any]) -> str:
    return hashlib.sha256(repr(sorted(about.items())).encode()).hexdigest()


def _reason(error: Exception, seconds: float) -> str:
    if isinstance(error, FSTimeoutError):
        return f"no answer within {seconds:g} s"
    text = " ".join(str(error).split())[:300]
    return text or type(error).__name__
