"""CUB-200-2011's tables as unpacked: certainties, species, and the lines with cells too many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.training.sources.photos import write_photos
from training.errors import DataError
from training.sources import MISSING, Dataset, SourceOptions, open_source

ATTRIBUTES = [
    "has_bill_shape::curved_(up_or_down)",
    "has_bill_shape::dagger",
    "has_size::large_(16_-_32_in)",
]
SPECIES = [f"{number:03d}.Bird_{number}" for number in range(1, 31)]
COUNT = 2 * len(SPECIES)  # two images of each
NAMES = [f"{SPECIES[i // 2]}/Bird_{i // 2 + 1}_{i:04d}_{796111 + i}.jpg" for i in range(COUNT)]
PRESENT = np.array([[(i >> bit) & 1 for bit in range(3)] for i in range(COUNT)])
CERTAINTY = np.array([[1 + (i + bit) % 4 for bit in range(3)] for i in range(COUNT)])


def numbered(values: list[str]) -> str:
    return "".join(f"{number} {value}\n" for number, value in enumerate(values, 1))


def answers() -> list[str]:
    return [
        f"{i + 1} {bit + 1} {PRESENT[i, bit]} {CERTAINTY[i, bit]} 27.7080\n"
        for i in range(COUNT)
        for bit in range(3)
    ]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder that the archive is unpacked into: attributes.txt lies beside the rest."""
    cub = tmp_path / "CUB_200_2011"
    write_photos(cub / "images", NAMES)
    (tmp_path / "attributes.txt").write_text(numbered(ATTRIBUTES))
    (cub / "images.txt").write_text(numbered(NAMES))
    (cub / "classes.txt").write_text(numbered(SPECIES))
    (cub / "image_class_labels.txt").write_text(numbered([str(i // 2 + 1) for i in range(COUNT)]))
    (cub / "train_test_split.txt").write_text(numbered([str(int(i % 3 > 0)) for i in range(COUNT)]))
    (cub / "attributes").mkdir()
    (cub / "attributes/image_attribute_labels.txt").write_text("".join(answers()))
    percent = [f"{number}.5 {100 - number}.0 50.0\n" for number in range(30, 60)]
    (cub / "attributes/class_attribute_labels_continuous.txt").write_text("".join(percent))
    return tmp_path


def read(root: Path, choices: str = "", seed: int = 0) -> Dataset:
    return open_source(f"cub200:{root}{choices}", SourceOptions(seed))


def test_answers_about_what_cannot_be_seen_are_missing(root: Path) -> None:
    dataset = read(root)
    assert dataset.tasks.names == tuple(ATTRIBUTES)
    assert [task.group for task in dataset.tasks] == [
        "has_bill_shape",
        "has_bill_shape",
        "has_size",
    ]
    assert (dataset.labels == np.where(CERTAINTY == 1, MISSING, PRESENT)).all()
    assert dataset.notes[0] == "25.0% of the labels are missing: less certain than 2"


@pytest.mark.parametrize("least", [1, 3, 4])
def test_the_certainty_can_be_chosen(root: Path, least: int) -> None:
    dataset = read(root, f",certainty={least}")
    enough = np.isin(CERTAINTY, range(least, 5))
    assert (dataset.labels == np.where(enough, PRESENT, MISSING)).all()
    assert dataset.digest != read(root).digest


def test_the_official_split_gets_a_val(root: Path) -> None:
    dataset = read(root / "CUB_200_2011")
    assert ((dataset.split == "test") == (np.arange(COUNT) % 3 == 0)).all()
    assert dataset.counts()["val"] > 0
    assert dataset.images.name(3) == NAMES[3]
    assert dataset.images.read(3) == (root / "CUB_200_2011/images" / NAMES[3]).read_bytes()


def test_a_drawn_split_has_no_species_on_two_sides(root: Path) -> None:
    dataset = read(root, ",split=species")
    assert (dataset.split[::2] == dataset.split[1::2]).all()
    assert min(dataset.counts().values()) > 0
    assert "by species" in dataset.notes[-1]


def test_labels_of_the_species(root: Path) -> None:
    labels = read(root, ",labels=class").labels
    species = np.arange(COUNT) // 2 + 30
    assert (labels[:, 0] == (species + 0.5 >= 50)).all()
    assert (labels[:, 1] == (100 - species >= 50)).all()
    assert (labels[:, 2] == 1).all()


def test_lines_with_cells_too_many_are_read(root: Path) -> None:
    path = root / "CUB_200_2011/attributes/image_attribute_labels.txt"
    expected = read(root).labels
    lines = answers()
    lines[7] = lines[7].replace(" 27.7080", " 0 1.509")
    path.write_text("".join(lines))
    assert (read(root).labels == expected).all()


def test_lines_may_come_in_any_order(root: Path) -> None:
    expected = read(root)
    cub = root / "CUB_200_2011"
    for name in ("attributes/image_attribute_labels.txt", "image_class_labels.txt"):
        lines = (cub / name).read_text().splitlines(keepends=True)
        (cub / name).write_text("".join(reversed(lines)))
    assert (read(root).labels == expected.labels).all()
    lines = (cub / "images.txt").read_text().splitlines(keepends=True)
    (cub / "images.txt").write_text("".join(reversed(lines)))
    assert (read(root).labels == expected.labels[::-1]).all()
    assert (read(root).split == expected.split[::-1]).all()


LABELS = "attributes/image_attribute_labels.txt"


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (LABELS, answers()[4], "", "lacks 1 of 180 labels .60 images x 3 attributes."),
        (LABELS, "2 2 0 3", "2 9 0 3", "line 5: 2 9 0 3; expected an image's id, an attribute"),
        (LABELS, "2 2 0 3", "2 2 0 5", "line 5: 2 2 0 5"),
        (LABELS, "2 2 0 3", "2 2 2 3", "line 5: 2 2 2 3"),
        (LABELS, "60 2 1", "61 2 1", "line 179: 61 2 1"),
        (LABELS, "2 2 0 3", "2 2 ? 3", r"line 5, '2 2 \? 3 27\.7080': could not convert"),
        (LABELS, "2 2 0 3 27.7080", "2 2", r"labels\.txt, line 5, '2 2': "),
        (LABELS, None, "", "is empty"),
        ("images.txt", "2 001", "1 001", "line 2: id '1' occurs twice"),
        ("images.txt", "2 001", "x 001", "line 2: id 'x' is no number"),
        ("images.txt", None, "", "images.txt: empty"),
        ("train_test_split.txt", "60 1\n", "", "59 images and lacks 1 of the 60 .* with id 60"),
        ("train_test_split.txt", "60 1\n", "60 2\n", "has '2' for image 60; expected 0 to 1"),
        ("image_class_labels.txt", "60 30", "60 31", "has '31' for image 60; expected 1 to 30"),
    ],
)
def test_mistakes(root: Path, name: str, old: str | None, new: str, message: str) -> None:
    path = root / "CUB_200_2011" / name
    text = path.read_text()
    assert old is None or old in text
    path.write_text(new if old is None else text.replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        read(root)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("1.0 2.0 3.0\n" * 29, "has 29 lines of 3 percentages; expected one line for each of 30"),
        ("1.0 2.0\n" * 30, "has 30 lines of 2 percentages; .* of 3 attributes"),
        ("1.0 2.0 3.0\n1.0 x 2.0\n", "line 2, '1.0 x 2.0': could not convert"),
        ("1.0 2.0 3.0\n1.0 2.0\n", "line 2, 2 numbers instead of 3"),
    ],
)
def test_wrong_percentages_are_refused(root: Path, lines: str, message: str) -> None:
    path = root / "CUB_200_2011/attributes/class_attribute_labels_continuous.txt"
    path.write_text(lines)
    with pytest.raises(DataError, match=rf"class_attribute_labels_continuous\.txt.*{message}"):
        read(root, ",labels=class")


def test_missing_files_are_named(root: Path) -> None:
    (root / "attributes.txt").rename(root / "elsewhere.txt")
    with pytest.raises(DataError, match=r"no file attributes/attributes\.txt, nor attributes\.txt"):
        read(root)
    (root / "elsewhere.txt").rename(root / "CUB_200_2011/attributes/attributes.txt")
    assert len(read(root).tasks) == 3
    (root / "CUB_200_2011/images" / NAMES[5]).unlink()
    with pytest.raises(DataError, match="1 of the 60 images"):
        read(root)
