from __future__ import annotations

import copy
import json
import pickle

import pytest

from model import errors
from model.errors import (
    BundleError,
    ImageError,
    ImageTooLargeError,
    TaskRouteError,
    UnknownTaskError,
    UnsupportedImageError,
)


def family(root: type[TaskRouteError] = TaskRouteError) -> list[type[TaskRouteError]]:
    """The classes of model.errors below ``root``, root first, depth first."""
    below = [kind for kind in root.__subclasses__() if kind.__module__ == errors.__name__]
    return [root, *(found for kind in below for found in family(kind))]


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    lines = (errors.__doc__ or "").splitlines()
    drawn = [line.strip(" │├└─").split()[0] for line in lines if "──" in line]
    assert drawn == [kind.__name__ for kind in family()[1:]]


def test_every_code_is_snake_case_and_tells_the_class() -> None:
    codes = [kind.code for kind in family() if kind is not ImageError]  # a base, never raised
    assert len(set(codes)) == len(codes)
    assert all(code.replace("_", "").isalpha() and code.islower() for code in codes)


@pytest.mark.parametrize("kind", [kind for kind in family() if kind is not UnknownTaskError])
def test_message_and_details_survive_a_process_boundary(kind: type[TaskRouteError]) -> None:
    error = kind("what went wrong", limit=3, names=["a"])
    for again in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):  # noqa: S301
        assert type(again) is kind
        assert str(again) == again.message == "what went wrong"
        assert again.details == {"limit": 3, "names": ["a"]}
    json.dumps(error.details)


def test_unknown_tasks_survive_a_process_boundary() -> None:
    error = UnknownTaskError(["shoo"], {"shoo": ["shoe"]})
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (str(again), again.details, again.unknown) == (str(error), error.details, ["shoo"])


def test_unknown_tasks_are_named_with_their_nearest() -> None:
    error = UnknownTaskError(["shoo", "xyz"], {"shoo": ["shoe", "shop"]})
    assert str(error) == "unknown task: 'shoo' (did you mean 'shoe', 'shop'?), 'xyz'"
    assert error.details == {
        "unknown": ["shoo", "xyz"],
        "nearest": {"shoo": ["shoe", "shop"], "xyz": []},
        "count": 2,
    }
    assert error.nearest == error.details["nearest"]


def test_a_flood_of_unknown_tasks_stays_a_short_message_and_short_details() -> None:
    names = [f"{index}" * 500 for index in range(1000)]
    error = UnknownTaskError(names, {})
    assert len(str(error)) < 1500
    assert str(error).endswith("and 990 more")
    assert error.details["unknown"] == [name[:100] for name in names[:20]]
    assert error.details["count"] == 1000
    assert len(json.dumps(error.details)) < 6000
    assert error.unknown == names


def test_callers_can_catch_by_the_question_they_ask() -> None:
    assert issubclass(ImageTooLargeError, ImageError)
    assert issubclass(UnsupportedImageError, ImageError)
    assert not issubclass(BundleError, ImageError)
    assert all(issubclass(kind, TaskRouteError) for kind in family())
