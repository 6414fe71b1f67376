"""CelebA's files as downloaded: attributes, partition, identities, aligned images."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.sources.photos import write_photos
from training.errors import DataError
from training.sources import Dataset, SourceOptions, open_source

ATTRIBUTES = ["5_o_Clock_Shadow", "Bald", "Young"]
COUNT = 60
PEOPLE = 30
NAMES = [f"{number:06d}.jpg" for number in range(1, COUNT + 1)]
ANSWERS = [[(i >> bit) & 1 for bit in range(3)] for i in range(COUNT)]
SIDES = [0] * 40 + [1] * 10 + [2] * 10


def table(values: list[int]) -> str:
    return "".join(f"{name} {value}\n" for name, value in zip(NAMES, values, strict=True))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_photos(tmp_path / "img_align_celeba", NAMES)
    # The official file pads its numbers to two characters.
    rows = [
        f"{name} {' '.join(f'{2 * answer - 1:2d}' for answer in answers)}\n"
        for name, answers in zip(NAMES, ANSWERS, strict=True)
    ]
    listing = f"{COUNT}\n{' '.join(ATTRIBUTES)} \n{''.join(rows)}"
    (tmp_path / "list_attr_celeba.txt").write_text(listing)
    (tmp_path / "list_eval_partition.txt").write_text(table(SIDES))
    (tmp_path / "identity_CelebA.txt").write_text(table([i % PEOPLE + 1 for i in range(COUNT)]))
    return tmp_path


def read(root: Path, choices: str = "", seed: int = 0) -> Dataset:
    return open_source(f"celeba:{root}{choices}", SourceOptions(seed))


def test_attributes_and_the_official_split(root: Path) -> None:
    dataset = read(root)
    assert dataset.tasks.names == tuple(ATTRIBUTES)
    assert all(task.is_binary for task in dataset.tasks)
    assert dataset.labels.tolist() == ANSWERS
    assert dataset.counts() == {"train": 40, "val": 10, "test": 10}
    assert dataset.split[40] == "val"
    assert dataset.images.name(6) == "000007.jpg"
    assert dataset.images.read(6) == (root / "img_align_celeba/000007.jpg").read_bytes()
    assert dataset.notes == ()


def test_the_folders_of_the_official_download(root: Path) -> None:
    expected = read(root).labels.tolist()
    places = {
        "Anno": ["list_attr_celeba.txt", "identity_CelebA.txt"],
        "Eval": ["list_eval_partition.txt"],
        "Img": ["img_align_celeba"],
    }
    for folder, names in places.items():
        (root / folder).mkdir()
        for name in names:
            (root / name).rename(root / folder / name)
    inner = root / "Img/img_align_celeba"
    inner.rename(root / "moved")
    inner.mkdir()
    (root / "moved").rename(inner / "img_align_celeba")
    assert read(root).labels.tolist() == expected
    assert read(root, ",split=identity").labels.tolist() == expected


def test_a_drawn_split_has_nobody_on_two_sides(root: Path) -> None:
    dataset = read(root, ",split=identity")
    assert dataset.split[:PEOPLE].tolist() == dataset.split[PEOPLE:].tolist()
    assert min(dataset.counts().values()) > 0
    assert dataset.notes == ("train, val, test drawn 80/10/10 by identity (seed 0)",)
    assert dataset.digest != read(root).digest


def test_a_drawn_val_has_nobody_of_train(root: Path) -> None:
    (root / "list_eval_partition.txt").write_text(table([0] * COUNT))
    split = read(root).split
    assert set(split.tolist()) == {"train", "val"}
    assert split[:PEOPLE].tolist() == split[PEOPLE:].tolist()


def test_identities_are_not_needed_for_the_official_split(root: Path) -> None:
    (root / "identity_CelebA.txt").unlink()
    assert read(root).counts()["test"] == 10
    with pytest.raises(DataError, match=r"no file identity_CelebA\.txt, nor Anno/identity_CelebA"):
        read(root, ",split=identity")


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("list_attr_celeba.txt", "60\n", "61\n", "says 61 images and lists 60"),
        ("list_attr_celeba.txt", "60\n", "sixty\n", "begins with 'sixty'; expected the number"),
        ("list_attr_celeba.txt", "000002.jpg  1", "000002.jpg  0", "line 4: '0'; expected -1 or 1"),
        ("list_attr_celeba.txt", "000002.jpg  1", "000002.jpg", "line 4: 3 cells, expected 4"),
        ("list_attr_celeba.txt", "Bald", "Young", "cannot be tasks: task names occur twice: Young"),
        (
            "list_attr_celeba.txt",
            "000002.jpg",
            "900002.jpg",
            "60 images and lacks 1 of the 60 .*900002",
        ),
        ("list_eval_partition.txt", "000060.jpg 2\n", "", "59 images and lacks 1 of the 60 .*0060"),
        ("list_eval_partition.txt", "000060.jpg 2", "000060.jpg 3", "has '3'; expected 0, 1 or 2"),
    ],
)
def test_mistakes(root: Path, name: str, old: str, new: str, message: str) -> None:
    path = root / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        read(root)


def test_missing_images_and_files_are_named(root: Path) -> None:
    (root / "img_align_celeba/000031.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of the 60 images that .*list_attr.*: 000031\.jpg"):
        read(root)
    (root / "list_attr_celeba.txt").unlink()
    with pytest.raises(DataError, match=r"no file list_attr_celeba\.txt, nor Anno/list_attr"):
        read(root)
