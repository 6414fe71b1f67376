"""Multi-class tasks from a table beside a pack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.tasks import Task
from tests.training.conftest import PackMaker, tiny_images
from training.errors import DataError
from training.sources import MISSING, SourceOptions, open_source

SHADES = ("dark", "medium", "light")


def write(path: Path, rows: int = 40, shade: str | None = None) -> Path:
    """Numbers of images, a class, a yes/no answer, a value that never changes, and a split."""
    levels = tiny_images(40).labels[:, 1]
    lines = ["id,shade,left,shop,split"]
    for index in range(rows):
        cells = [f"n{index}", SHADES[levels[index]], "yes" if index % 2 else "no", "ours", "train"]
        lines.append(",".join(cells))
    if shade is not None:
        lines[3] = f"n2,{shade},no,ours,train"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_columns_become_tasks_beside_the_packs_own(make_pack: PackMaker) -> None:
    pack = make_pack(attr_names=np.array(["bright", "shade::light", "sunny"]))
    write(pack.with_name("labels.csv"), shade="")
    dataset = open_source(f"pack:{pack},labels=labels.csv")
    assert dataset.tasks.names == ("bright", "shade::light", "sunny", "shade", "left")
    shade, left = dataset.tasks[3], dataset.tasks[4]
    assert (shade.group, shade.classes) == ("label", ("dark", "light", "medium"))
    assert (left.group, left.classes) == ("label", ("no", "yes"))
    assert dataset.labels[:, 4].tolist() == [index % 2 for index in range(40)]
    assert dataset.labels[2, 3] == MISSING
    named = [shade.classes[label] for label in dataset.labels[3:, 3].tolist()]
    assert named == [SHADES[level] for level in tiny_images(40).labels[3:, 1].tolist()]
    # The pack's split, not the table's.
    assert dataset.counts() == {"train": 24, "val": 8, "test": 8}
    assert dataset.notes == (
        "column 'id' left out: 40 values for 40 images",
        "column 'shop' left out: fewer than two different values",
    )
    assert dataset.with_tasks(["shade"]).labels.shape == (40, 1)


def test_the_table_is_part_of_the_digest(make_pack: PackMaker) -> None:
    pack = make_pack(attr=None, attr_names=None)
    table = write(pack.with_name("labels.csv"))
    before = open_source(f"pack:{pack},labels=labels.csv").digest
    write(table, shade="light")
    assert open_source(f"pack:{pack},labels=labels.csv").digest != before


def test_classes_of_a_model_are_kept_in_their_order(make_pack: PackMaker) -> None:
    pack = make_pack(attr=None, attr_names=None)
    write(pack.with_name("labels.csv"))
    options = SourceOptions(tasks=(Task(name="shade", classes=(*SHADES, "other")),))
    dataset = open_source(f"pack:{pack},labels=labels.csv", options)
    assert dataset.tasks[0].classes == (*SHADES, "other")
    assert dataset.labels[:, 0].tolist() == tiny_images(40).labels[:, 1].tolist()


@pytest.mark.parametrize(
    ("rows", "shade", "message"),
    [(39, None, "39 rows below the header for a pack of 40 images"), (40, "yes", "mixes yes/no")],
)
def test_a_table_that_does_not_fit_is_named(
    make_pack: PackMaker, rows: int, shade: str | None, message: str
) -> None:
    pack = make_pack()
    write(pack.with_name("labels.csv"), rows, shade)
    with pytest.raises(DataError, match=rf"labels\.csv.*{message}"):
        open_source(f"pack:{pack},labels=labels.csv")


def test_a_table_that_is_not_there(make_pack: PackMaker) -> None:
    with pytest.raises(DataError, match=r"labels\.csv: cannot be read: No such file"):
        open_source(f"pack:{make_pack()},labels=labels.csv")
