"""Every error of this package has a code, an exit code, and a line in the tree."""

from __future__ import annotations

import inspect

import pytest

import training.errors
from model.errors import BundleError, ConfigError, RepositoryError, TaskRouteError, UnknownTaskError
from training.errors import exit_code

ERRORS = [
    one
    for _, one in inspect.getmembers(training.errors, inspect.isclass)
    if issubclass(one, TaskRouteError) and one.__module__ == "training.errors"
]


def test_the_tree_is_complete() -> None:
    assert ERRORS
    for one in ERRORS:
        assert f" {one.__name__} " in (training.errors.__doc__ or "")


def test_codes_are_distinct() -> None:
    assert len({one.code for one in ERRORS}) == len(ERRORS)
    assert all(one.code != TaskRouteError.code for one in ERRORS)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (training.errors.SettingsError("x"), 2),
        (training.errors.SourceError("x"), 2),
        (ConfigError("x"), 2),
        (UnknownTaskError(["x"], {}), 2),
        (training.errors.DataError("x"), 1),
        (training.errors.StateError("x"), 1),
        (training.errors.DivergedError("x"), 1),
        (training.errors.RunInterruptedError("x"), 1),
        (RepositoryError("x"), 1),
        (BundleError("x"), 1),
    ],
)
def test_exit_codes(error: TaskRouteError, code: int) -> None:
    assert exit_code(error) == code
