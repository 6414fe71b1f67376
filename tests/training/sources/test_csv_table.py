"""CSV files: what columns become, and that every mistake is named with its place."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.tasks import Task
from tests.training.conftest import CsvMaker
from training.errors import DataError
from training.sources import MISSING, Dataset, SourceOptions, open_source

SPLIT = ["train", "train", "val", "test"]
HEADER = ["image", "split", "hat", "garment"]
ROWS = [
    ["a.png", "train", "1", "Shirt"],
    ["b.png", "train", "0", "Dress"],
    ["c.png", "val", "", "Coat"],
    ["d.png", "test", "1", ""],
]


def read(path: Path, *tasks: Task) -> Dataset:
    return open_source(f"csv:{path}", SourceOptions(tasks=tasks))


def test_columns_become_binary_and_multi_class_tasks(make_csv: CsvMaker) -> None:
    dataset = read(make_csv(HEADER, ROWS))
    assert dataset.tasks.names == ("hat", "garment")
    assert dataset.tasks[0].classes == ("no", "yes")
    assert dataset.tasks[1].classes == ("Coat", "Dress", "Shirt")
    assert dataset.labels.tolist() == [[1, 2], [0, 1], [MISSING, 0], [1, MISSING]]
    assert dataset.split.tolist() == SPLIT
    assert dataset.notes == ()


@pytest.mark.parametrize("cells", [["yes", "no"], ["True", "False"], ["1", "0"], ["YES", "No"]])
def test_every_spelling_of_yes_and_no_is_binary(make_csv: CsvMaker, cells: list[str]) -> None:
    rows = [[f"{i}.png", split, cells[i % 2]] for i, split in enumerate(SPLIT)]
    dataset = read(make_csv(["image", "split", "hat"], rows))
    assert dataset.tasks[0].is_binary
    assert dataset.labels[:, 0].tolist() == [1, 0, 1, 0]


def test_images_are_the_files_beside_the_csv(make_csv: CsvMaker) -> None:
    dataset = read(make_csv(HEADER, ROWS))
    data = dataset.images.read(1)
    assert isinstance(data, bytes)
    assert Image.open(io.BytesIO(data)).size == (30, 40)
    assert dataset.images.name(1) == "b.png"


def test_two_category_values_make_a_binary_task_of_those_names(make_csv: CsvMaker) -> None:
    rows = [[f"{i}.png", s, c] for i, (s, c) in enumerate(zip(SPLIT, "abab", strict=True))]
    assert read(make_csv(["image", "split", "kind"], rows)).tasks[0].classes == ("a", "b")


def test_a_byte_order_mark_and_spaces_do_not_matter(make_csv: CsvMaker) -> None:
    path = make_csv(HEADER, [[cell and f" {cell}" for cell in row] for row in ROWS])
    for name in "abcd":
        (path.parent / f" {name}.png").rename(path.parent / f"{name}.png")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert (
        read(path).labels.tolist() == read(make_csv(HEADER, ROWS, name="plain.csv")).labels.tolist()
    )


def test_a_missing_image_is_named_with_line_and_column(make_csv: CsvMaker) -> None:
    path = make_csv(HEADER, ROWS, without=["c.png"])
    with pytest.raises(
        DataError, match=r"photos\.csv, line 4, column 'image': there is no file .*c\.png"
    ):
        read(path)


def test_an_image_cell_that_is_no_path_is_named_in_short(make_csv: CsvMaker) -> None:
    path = make_csv(HEADER, ROWS)
    with path.open("a") as file:
        file.write(f"data:image/png;base64;{5000 * 'A'},test,1,Coat\n")
    with pytest.raises(
        DataError, match=r"line 6, column 'image': 'data:image/png;base64;A{178}'\.\.\.: File name"
    ):
        read(path)


def test_an_empty_image_cell_is_named(make_csv: CsvMaker) -> None:
    rows = [*ROWS, ["", "test", "1", "Coat"]]
    with pytest.raises(DataError, match="line 6, column 'image': the cell is empty"):
        read(make_csv(HEADER, rows))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (["photo", "split", "hat", "garment"], "no column 'image'.*'photo', 'split'"),
        (["image", "split", "hat", "hat"], "column 'hat' occurs twice"),
        (["image", "split", "hat", ""], "a column has no name"),
        (
            ["image", "split", "hat,cap", "garment"],
            "column 'hat,cap' cannot be a task: 'hat,cap' is no name: no comma",
        ),
    ],
)
def test_wrong_columns(make_csv: CsvMaker, header: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(make_csv(header, ROWS))


def test_a_row_of_another_length_is_named(make_csv: CsvMaker) -> None:
    with pytest.raises(DataError, match="line 6: 3 cells, but the header has 4 columns"):
        read(make_csv(HEADER, [*ROWS, ["e.png", "train", "1"]]))


def test_an_unknown_split_is_named(make_csv: CsvMaker) -> None:
    rows = [*ROWS, ["e.png", "dev", "1", "Coat"]]
    with pytest.raises(
        DataError, match="line 6, column 'split': 'dev' is none of train, val, test"
    ):
        read(make_csv(HEADER, rows))


def test_yes_no_mixed_with_another_word_is_refused(make_csv: CsvMaker) -> None:
    rows = [
        [f"{i}.png", s, c]
        for i, (s, c) in enumerate(zip(SPLIT, ["yes", "no", "yess", "no"], strict=True))
    ]
    with pytest.raises(DataError, match="column 'hat' mixes yes/no answers with 'yess'"):
        read(make_csv(["image", "split", "hat"], rows))


def test_small_numbers_are_categories(make_csv: CsvMaker) -> None:
    rows = [[f"{i}.png", s, c] for i, (s, c) in enumerate(zip(SPLIT, "0120", strict=True))]
    assert read(make_csv(["image", "split", "doors"], rows)).tasks[0].classes == ("0", "1", "2")


def test_a_label_outside_the_models_classes_is_named(make_csv: CsvMaker) -> None:
    garment = Task(name="garment", classes=("Coat", "Dress", "Hat"))
    with pytest.raises(
        DataError,
        match=r"line 2, column 'garment': 'Shirt' is no class of .*'Coat', 'Dress', 'Hat'",
    ):
        read(make_csv(HEADER, ROWS), garment)


def test_the_models_classes_keep_their_order(make_csv: CsvMaker) -> None:
    garment = Task(name="garment", classes=("Shirt", "Dress", "Coat"))
    assert read(make_csv(HEADER, ROWS), garment).labels[:, 1].tolist() == [0, 1, 2, MISSING]


def test_no_tasks_left(make_csv: CsvMaker) -> None:
    rows = [
        [f"{i}.png", s, c] for i, (s, c) in enumerate(zip(SPLIT, ["x", "", "x", "x"], strict=True))
    ]
    with pytest.raises(DataError, match=r"no tasks left.*only one value or none in kind"):
        read(make_csv(["image", "split", "kind"], rows))
    with pytest.raises(DataError, match="no tasks left"):
        read(make_csv(["image", "split"], [row[:2] for row in ROWS]))


def test_a_column_without_information_is_left_out_and_said(make_csv: CsvMaker) -> None:
    dataset = read(make_csv([*HEADER, "place"], [[*row, "Rome"] for row in ROWS]))
    assert dataset.tasks.names == ("hat", "garment")
    assert dataset.notes == ("column 'place' left out: fewer than two different values",)


@pytest.mark.parametrize(
    "content", [b"", b"image,hat\n", b"\xff\xfe\x00image", b'image,hat\na.png,"1\n']
)
def test_a_file_that_is_no_table_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.csv"):
        read(path)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.csv: cannot be read: No such file"):
        read(tmp_path / "nowhere.csv")


def test_the_tasks_file_gives_classes_groups_and_descriptions(make_csv: CsvMaker) -> None:
    path = make_csv(HEADER, ROWS)
    path.with_suffix(".tasks.toml").write_text(
        '[garment]\ngroup = "what"\nclasses = ["Shirt", "Dress", "Coat", "Sock"]\n'
        '[hat]\ndescription = "is there a hat?"\n'
    )
    hat, garment = read(path).tasks
    assert garment == Task(name="garment", group="what", classes=("Shirt", "Dress", "Coat", "Sock"))
    assert hat == Task(name="hat", description="is there a hat?")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '[garment]\nclasses = ["Shirt", "Dress"]\n',
            "line 4, column 'garment': 'Coat' is no class",
        ),
        ('[cap]\ngroup = "what"\n', r"\[cap\] names no column"),
        ('[hat]\ngruop = "what"\n', r"\[hat\] may hold classes, description, group only"),
        ('[hat]\nclasses = ["one"]\n', r"\[hat\].*at least two"),
        ("[hat\n", r"photos\.tasks\.toml: cannot be read"),
    ],
)
def test_mistakes_in_the_tasks_file(make_csv: CsvMaker, content: str, message: str) -> None:
    path = make_csv(HEADER, ROWS)
    path.with_suffix(".tasks.toml").write_text(content)
    with pytest.raises(DataError, match=message):
        read(path)


def test_without_a_split_column_one_is_drawn_and_said(make_csv: CsvMaker) -> None:
    rows = [[f"{index}.png", str(index % 2)] for index in range(120)]
    dataset = read(make_csv(["image", "hat"], rows))
    counts = dataset.counts()
    assert counts["train"] > 80
    assert min(counts.values()) > 0
    assert "drawn 80/10/10" in dataset.notes[0]


def test_the_digest_follows_labels_and_images(make_csv: CsvMaker) -> None:
    path = make_csv(HEADER, ROWS)
    before = read(path).digest
    assert read(path).digest == before
    Image.new("RGB", (31, 40)).save(path.parent / "a.png", compress_level=0)
    changed_image = read(path).digest
    assert changed_image != before
    path.write_text(path.read_text().replace("Shirt", "Skirt"))
    assert read(path).digest not in (before, changed_image)


def test_labels_are_small_integers(make_csv: CsvMaker) -> None:
    assert read(make_csv(HEADER, ROWS)).labels.dtype == np.int16


def test_a_split_is_drawn_so_that_no_group_is_on_two_sides(make_csv: CsvMaker) -> None:
    rows = [[f"{i}.png", f"person {i % 30}", str(i % 2)] for i in range(240)]
    dataset = read(make_csv(["image", "split_group", "hat"], rows))
    assert dataset.tasks.names == ("hat",)
    assert min(dataset.counts().values()) > 0
    sides = {(row[1], side) for row, side in zip(rows, dataset.split.tolist(), strict=True)}
    assert len(sides) == 30
    assert dataset.notes == (
        "no split column: train, val, test drawn 80/10/10 by split_group (seed 0)",
    )


def test_a_missing_val_split_is_drawn_by_group(make_csv: CsvMaker) -> None:
    rows = [
        [f"{i}.png", f"p{i % 40}", "test" if i % 40 < 4 else "train", str(i % 2)]
        for i in range(240)
    ]
    dataset = read(make_csv(["image", "split_group", "split", "hat"], rows))
    sides = {(row[1], side) for row, side in zip(rows, dataset.split.tolist(), strict=True)}
    assert len(sides) == 40
    assert dataset.counts()["val"] > 0


def test_a_group_on_two_sides_of_the_tables_own_split_is_refused(make_csv: CsvMaker) -> None:
    rows = [[*row, person] for row, person in zip(ROWS, ["ann", "bob", "", "ann"], strict=True)]
    with pytest.raises(
        DataError,
        match=r"line 5, column 'split': 'test', but 'ann' is in 'train' too \(.*line 2, column",
    ):
        read(make_csv([*HEADER, "split_group"], rows))
