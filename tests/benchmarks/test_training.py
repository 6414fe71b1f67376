"""The comparisons of methods of training, as command lines."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.derived_data import PRODUCT_COLUMNS, product_columns, species_attributes
from benchmarks.method_comparison import command, source_of
from benchmarks.packs import DATA
from benchmarks.training import COMPARISONS, STAGES, take_over
from training.compare.sweep import DECIDED
from training.methods import choose_methods
from training.sources import open_source

OF_COMPARE = ("--methods", "--keeps", "--seeds", "--budget-s", "--task-counts")


@pytest.mark.parametrize("name", COMPARISONS)
def test_every_stage_is_a_comparison_that_can_be_asked_for(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA, "/data")
    one = replace(COMPARISONS[name], derive=None)
    source = source_of(one, Path("/fashion"), Path("build"))
    assert source == (f"pack:/data/{one.pack}" if one.pack else "fashion-mnist:/fashion")
    for stage in one.stages:
        words = command(one, stage, source, Path("out"))
        options = dict(zip(words[4::2], words[5::2], strict=True))
        assert options["--out"] == f"out/{name}"
        assert not {f"--{setting}" for setting in DECIDED} & options.keys()
        given = {
            option.removeprefix("--").replace("-", "_"): value
            for option, value in options.items()
            if option not in ("--data", "--out", *OF_COMPARE)
        }
        for method in choose_methods(stage.methods.split(",")):
            method.settings(given)


def test_the_last_stage_has_what_the_earlier_ones_have() -> None:
    methods, keeps = set(STAGES[-1].methods.split(",")), set(STAGES[-1].keeps.split(","))
    for stage in STAGES:
        assert set(stage.methods.split(",")) <= methods
        assert set(stage.keeps.split(",")) <= keeps


def test_runs_of_the_comparison_beside_are_taken_over_once(tmp_path: Path) -> None:
    there = tmp_path / "celeba-40" / "cells"
    there.mkdir(parents=True)
    names = ("shared-tasks40-seed0", "evidence-keep0.5-tasks40-seed0")
    others = ("evidence-keep0.2-tasks40-seed0", "evidence-all-keep0.5-tasks40-seed0",
              "shared-tasks40-seed1")  # fmt: skip
    for name in names + others:
        (there / f"{name}.json").write_text("theirs")
    own = tmp_path / "celeba-40-3-seeds" / "cells"
    own.mkdir(parents=True)
    (own / f"{names[0]}.json").write_text("own")
    take_over(COMPARISONS["celeba-40-3-seeds"], tmp_path)
    assert {path.stem: path.read_text() for path in own.iterdir()} == {
        names[0]: "own",
        names[1]: "theirs",
    }


def pack_of(folder: Path, more: Mapping[str, np.ndarray]) -> Path:
    """Four images, of 1, 2, 3 and 4 bytes."""
    arrays = {
        "jpeg": np.arange(10, dtype=np.uint8),
        "offsets": np.array([0, 1, 3, 6, 10]),
        "split": np.array(["train", "train", "val", "test"]),
        **more,
    }
    np.savez(folder / "pack.npz", allow_pickle=False, **arrays)
    return folder / "pack.npz"


def test_every_image_has_the_attributes_of_its_species(tmp_path: Path) -> None:
    species = np.array([[0, 1, 1], [1, 1, 0]], np.uint8)
    names = np.array(["wing::red", "wing::blue", "has_tail"])
    arrays = {"y": np.array([1, 0, 1, 1]), "class_attr": species, "class_attr_names": names}
    pack = pack_of(tmp_path, arrays)
    data = open_source(species_attributes(pack, tmp_path / "out"))
    assert data.tasks.names == ("wing::red", "wing::blue", "has_tail")
    assert data.labels.tolist() == [[1, 1, 0], [0, 1, 1], [1, 1, 0], [1, 1, 0]]
    assert data.images.read(2) == bytes([3, 4, 5])


def test_label_columns_become_tasks_of_several_classes(tmp_path: Path) -> None:
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", *PRODUCT_COLUMNS, "split"])
        for index, split in enumerate(("train", "train", "val", "test")):
            table.writerow([index, *(f"{name} {index % 3}" for name in PRODUCT_COLUMNS), split])
    data = open_source(product_columns(pack_of(tmp_path, {}), tmp_path / "out"))
    assert data.tasks.names == PRODUCT_COLUMNS
    assert data.tasks[0].classes == ("gender 0", "gender 1", "gender 2")
    assert data.labels[:, 0].tolist() == [0, 1, 2, 0]
    assert data.split.tolist() == ["train", "train", "val", "test"]
    assert data.images.read(3) == bytes([6, 7, 8, 9])
