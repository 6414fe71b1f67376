"""Lists of numbers on command lines."""

from __future__ import annotations

import pytest
import typer

from benchmarks.number_list import integers


def test_numbers_are_separated_by_commas() -> None:
    assert integers("64") == [64]
    assert integers("1, 2,312") == [1, 2, 312]


def test_anything_else_is_wrong_usage() -> None:
    with pytest.raises(typer.BadParameter, match="'1;2' is not a list"):
        integers("1;2")
