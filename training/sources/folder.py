"""The folder that a data set was unpacked into; what is missing is named with where it belongs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.errors import DataError
from training.sources.images import FileImages

_NAMED = 3


@dataclass(frozen=True)
class Folder:
    """A data set's root on disk."""

    source: str
    """The SOURCE argument, for messages."""
    path: Path

    def below(self, name: str) -> Folder:
        """The folder ``name`` in this one, or this one where it is not there.

        Archives are unpacked with and without their outermost folder.
        """
        inner = self.path / name
        return Folder(self.source, inner) if inner.is_dir() else self

    def file(self, *places: str) -> Path:
        """The first of these files that is there.

        Raises:
            DataError: none is; names them all.
        """
        for place in places:
            if (self.path / place).is_file():
                return self.path / place
        raise self._absent("file", places)

    def folder(self, *places: str) -> Path:
        """The first of these folders that is there.

        Raises:
            DataError: none is; names them all.
        """
        for place in places:
            if (self.path / place).is_dir():
                return self.path / place
        raise self._absent("folder", places)

    def images(self, base: Path, names: Sequence[str], listed_in: Path) -> FileImages:
        """The images called ``names`` below ``base``.

        Raises:
            DataError: some are not there; counts them and names the first.
        """
        images = FileImages(base, names)
        missing = [
            name for name, path in zip(names, images.paths(), strict=True) if not path.is_file()
        ]
        if missing:
            first = ", ".join(missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
            raise self.error(
                f"{len(missing)} of the {len(names)} images that {listed_in} lists are not in "
                f"{base}: {first}; unpack the images again",
                missing=missing[:_NAMED],
            )
        return images

    def error(self, problem: str, **details: Any) -> DataError:
        """``problem``, with the source before it."""
        return DataError(f"{self.source}: {problem}", path=str(self.path), **details)

    def _absent(self, kind: str, places: Sequence[str]) -> DataError:
        if not self.path.is_dir():
            return self.error(f"there is no folder {self.path}")
        others = f", nor {', '.join(places[1:])}" if len(places) > 1 else ""
        return self.error(
            f"there is no {kind} {places[0]}{others} in {self.path}; expected is the data set's "
            "official layout, as downloaded and unpacked",
            expected=list(places),
        )


def read_rows(path: Path, cells: int, skip: int = 0) -> Iterator[tuple[int, list[str]]]:
    """Line number and white-space-separated cells of every line that is not empty.

    Args:
        cells: how many a line has to have.
        skip: lines of header that are passed over.

    Raises:
        DataError: unreadable, or a line of another length.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in itertools.islice(enumerate(file, 1), skip, None):
                row = line.split()
                if not row:
                    continue
                if len(row) != cells:
                    raise DataError(
                        f"{path}, line {number}: {len(row)} cells, expected {cells}", line=number
                    )
                yield number, row
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", path=str(path)) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not text in UTF-8: {error}", path=str(path)) from error
