"""Small image files where a data set's layout wants them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from PIL import Image


def write_photos(folder: Path, names: Iterable[str]) -> None:
    """One plain image for each name, in folders made as needed."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 10), (number % 256, 80, 120)).save(path)
