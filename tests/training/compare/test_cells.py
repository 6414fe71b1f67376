"""The grid of a comparison and what is kept of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.conftest import tiny
from training.compare.cells import Cell, CellStore, asked, fingerprint, grid
from training.errors import StateError
from training.methods import METHODS, choose_methods

CELL = Cell(METHODS["paper"], 0.4, 10, 1)


def test_what_has_no_routes_has_one_cell_for_all_keeps() -> None:
    cells = grid(choose_methods(["shared", "paper"]), [0.2, 0.5], [10, 20], seeds=2)
    assert len(cells) == 2 * 2 * (1 + 2)
    assert [cell.key for cell in cells[:3]] == [
        "shared-tasks10-seed0", "paper-keep0.2-tasks10-seed0", "paper-keep0.5-tasks10-seed0",
    ]  # fmt: skip
    assert [cell.seed for cell in cells] == [0] * 6 + [1] * 6
    assert len({cell.key for cell in cells}) == len(cells)


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    store, wanted = CellStore(tmp_path / "cells"), asked(tiny(), "sha256:a")
    assert store.read(CELL, wanted) is None
    record = {"asked": wanted, "figures": {"accuracy": 0.1 + 0.2}}
    store.write(CELL, record)
    assert store.read(CELL, wanted) == record
    assert [path.name for path in (tmp_path / "cells").iterdir()] == [f"{CELL.key}.json"]


def test_a_result_of_other_settings_or_data_is_refused(tmp_path: Path) -> None:
    store = CellStore(tmp_path)
    store.write(CELL, {"asked": asked(tiny(), "sha256:a")})
    with pytest.raises(StateError, match=r"lr \(was 0.05, is 0.5\).*delete the cells"):
        store.read(CELL, asked(tiny(lr=0.5), "sha256:a"))
    with pytest.raises(StateError, match="with other data;"):
        store.read(CELL, asked(tiny(), "sha256:b"))
    assert store.read(CELL, asked(tiny(checkpoint_interval_s=7), "sha256:a"))


def test_how_routes_are_trained_is_nothing_to_a_method_without_any(tmp_path: Path) -> None:
    store, without = CellStore(tmp_path), Cell(METHODS["shared"], None, 10, 1)
    for cell in (CELL, without):
        store.write(cell, {"asked": asked(tiny(), "sha256:a")})
    wanted = asked(tiny(shared_start=0.5), "sha256:a")
    assert store.read(without, wanted)
    with pytest.raises(StateError, match="shared_start"):
        store.read(CELL, wanted)
    with pytest.raises(StateError, match="lr"):
        store.read(without, asked(tiny(lr=0.5), "sha256:a"))


def test_a_setting_newer_than_the_result_had_its_default(tmp_path: Path) -> None:
    store, old = CellStore(tmp_path), asked(tiny(), "sha256:a")
    wanted = asked(tiny(), "sha256:a")
    del old["settings"]["focal_gamma"]
    store.write(CELL, {"asked": old})
    assert store.read(CELL, wanted)
    with pytest.raises(StateError, match="focal_gamma"):
        store.read(CELL, asked(tiny(focal_gamma=2), "sha256:a"))


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    store = CellStore(tmp_path)
    store.path(CELL).write_text('{"asked": ')
    with pytest.raises(StateError, match=rf"{CELL.key}.json: cannot be read.*delete it"):
        store.read(CELL, asked(tiny(), "sha256:a"))


def test_where_weights_came_from_is_said_without_the_way_there() -> None:
    wanted = asked(tiny(init_from="/home/me/models/birds/3"), "sha256:a")
    assert wanted["settings"]["init_from"] == "birds/3"


def test_equal_questions_have_equal_fingerprints() -> None:
    one, other = asked(tiny(), "sha256:a"), asked(tiny(seed=1), "sha256:a")
    assert fingerprint(one) == fingerprint(asked(tiny(), "sha256:a")) != fingerprint(other)
