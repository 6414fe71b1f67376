"""Choices after a data set's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.errors import SourceError, exit_code
from training.sources.choices import read_choices

ALLOWED = {"split": ("official", "species"), "domains": ("",)}


def test_the_first_value_is_the_default() -> None:
    assert read_choices("x", "a/b", ALLOWED) == (Path("a/b"), {"split": "official", "domains": ""})


def test_choices_come_after_the_folder_in_any_order() -> None:
    path, choices = read_choices("x", "a, b/c=d,domains=p+q,split=species", ALLOWED)
    assert path == Path("a, b/c=d")
    assert choices == {"split": "species", "domains": "p+q"}


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("a,split=person", "x:a,split=person: 'split' cannot be 'person'; .* split=official"),
        ("a,colour=red", r"'colour' is nothing to choose; .*split=official\|species, domains=TEXT"),
        ("a,split=species,split=species", "'split' is chosen twice"),
    ],
)
def test_anything_else_is_wrong_usage(argument: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        read_choices("x", argument, ALLOWED)
    assert exit_code(caught.value) == 2
