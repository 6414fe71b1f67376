"""Reading ``.npz`` files: no pickle, and errors that name the file and the array."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.errors import DataError

Array = NDArray[np.generic]


def read_archive(path: Path) -> Mapping[str, Array]:
    """Every array of an ``.npz`` file, decompressed.

    Raises:
        DataError: missing, unreadable, not an ``.npz``, or holding Python objects.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file", path=str(path))
    try:
        # Opened here: given a path, numpy leaves the file open when the archive is broken.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array, not an archive")
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path}: not a readable .npz image pack: {error}", path=str(path)
        ) from error
