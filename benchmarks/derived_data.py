"""Data sets that the packs hold otherwise than they are trained on, written from them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

PRODUCT_COLUMNS = (
    "gender", "masterCategory", "subCategory", "articleType", "baseColour", "season", "usage",
)  # fmt: skip


def species_attributes(pack: Path, folder: Path) -> str:
    """CUB's 312 attributes as its paper has them: those of the species, for each of its images.

    Many are constant over the species of the pack: tasks with one class only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with np.load(pack) as arrays:
        np.savez(
            folder / "species.npz",
            jpeg=arrays["jpeg"],
            offsets=arrays["offsets"],
            attr=arrays["class_attr"][arrays["y"]],
            attr_names=arrays["class_attr_names"],
            split=arrays["split"],
        )
    return f"pack:{folder / 'species.npz'}"


def product_columns(pack: Path, folder: Path) -> str:
    """The seven label columns of the products as multi-class tasks: files and a table of them."""
    folder.mkdir(parents=True, exist_ok=True)
    with np.load(pack) as arrays:
        data, offsets = arrays["jpeg"], arrays["offsets"]
    with pack.with_name("labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (folder / "products.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", "split", *PRODUCT_COLUMNS])
        for index, row in enumerate(rows):
            name = f"{index}.jpg"
            (folder / name).write_bytes(data[offsets[index] : offsets[index + 1]].tobytes())
            table.writerow([name, row["split"], *(row[column] for column in PRODUCT_COLUMNS)])
    return f"csv:{folder / 'products.csv'}"
