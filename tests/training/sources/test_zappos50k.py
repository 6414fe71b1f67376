"""UT-Zappos50K's metadata and folders of images, as unpacked."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.training.sources.photos import write_photos
from training.errors import DataError
from training.sources import MISSING, Dataset, SourceOptions, open_source

HEADER = ["CID", "Category", "SubCategory", "HeelHeight", "Insole"]
HEADER += ["Closure", "Gender", "Material", "ToeStyle"]
KINDS = ["Boots", "Sandals", "Shoes", "Slippers"]
HEELS = ["", "Flat", "1in - 1 3/4in"]
CLOSURES = ["Lace up", "Zipper", "Lace up;Zipper", "Buckle"]
GENDERS = ["Men", "Women"]
COLOURS = 2
COUNT = 60


def row(index: int) -> list[str]:
    cid = f"{100627 + index // COLOURS}-{72 + index % COLOURS}"
    heel, closure = HEELS[index % 3], CLOSURES[index % 4]
    kind, gender = KINDS[index % 4], GENDERS[index % 2]
    return [cid, kind, "Ankle", heel, "Padded", closure, gender, "Suede", "Round Toe"]


def photo(index: int) -> str:
    """Below folders of category, subcategory and brand; brands hold spaces and dots."""
    return f"{KINDS[index % 4]}/Ankle/Dr. Shoe/{row(index)[0].replace('-', '.')}.jpg"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_photos(tmp_path / "ut-zap50k-images", map(photo, range(COUNT)))
    (tmp_path / "ut-zap50k-data").mkdir()
    with (tmp_path / "ut-zap50k-data/meta-data.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *map(row, range(COUNT))])
    return tmp_path


def read(root: Path, seed: int = 0) -> Dataset:
    return open_source(f"zappos50k:{root}", SourceOptions(seed))


def test_four_tasks_with_the_values_as_classes(root: Path) -> None:
    dataset = read(root)
    assert dataset.tasks.names == ("category", "gender", "heel_height", "closure")
    assert [task.classes for task in dataset.tasks] == [
        tuple(KINDS),
        ("Men", "Women"),
        ("1in - 1 3/4in", "Flat"),
        ("Buckle", "Lace up", "Zipper"),
    ]
    assert dataset.labels[:4].tolist() == [
        [0, 0, MISSING, 1],
        [1, 1, 1, 2],
        [2, 0, 0, MISSING],
        [3, 1, MISSING, 0],
    ]
    assert dataset.notes[0] == "missing labels, since several values are given: 15 of closure"


def test_images_are_found_in_their_folders(root: Path) -> None:
    images = read(root).images
    assert images.name(5) == photo(5)
    assert images.read(5) == (root / "ut-zap50k-images" / photo(5)).read_bytes()


def test_no_product_is_on_two_sides(root: Path) -> None:
    dataset = read(root)
    assert (dataset.split[::2] == dataset.split[1::2]).all()
    assert min(dataset.counts().values()) > 0
    assert dataset.notes[1] == "train, val, test drawn 80/10/10 by product (seed 0)"


def test_other_places_of_the_download(root: Path) -> None:
    expected = read(root)
    (root / "ut-zap50k-images").rename(root / "ut-zap50k-images-square")
    (root / "ut-zap50k-data/meta-data.csv").rename(root / "meta-data.csv")
    assert read(root).labels.tolist() == expected.labels.tolist()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("HeelHeight", "Heel", "has no column 'HeelHeight'; its header is CID, Category"),
        ("100627-72", "999-9", r"1 of the 60 shoes in meta-data\.csv have no image .*999\.9\.jpg"),
        (",Women,Suede,Round Toe", "", "line 3: fewer cells than the header"),
        ("Women", "Men", "its columns cannot be tasks: .*'gender' has 1 class"),
    ],
)
def test_mistakes(root: Path, old: str, new: str, message: str) -> None:
    path = root / "ut-zap50k-data/meta-data.csv"
    text = path.read_text()
    path.write_text(text.replace(old, new, -1 if new == "Men" else 1))
    with pytest.raises(DataError, match=message):
        read(root)


def test_missing_files_are_named(root: Path) -> None:
    path = root / "ut-zap50k-data/meta-data.csv"
    path.write_text("CID,Category,Gender,HeelHeight,Closure\n")
    with pytest.raises(DataError, match=r"meta-data\.csv has no rows"):
        read(root)
    path.unlink()
    with pytest.raises(DataError, match=r"no file ut-zap50k-data/meta-data\.csv, nor meta-data\.c"):
        read(root)
    (root / "ut-zap50k-images").rename(root / "images")
    with pytest.raises(DataError, match="no folder ut-zap50k-images, nor ut-zap50k-images-square"):
        read(root)
