"""Which tasks a list of selectors means."""

from __future__ import annotations

import pytest

from model.errors import UnknownTaskError
from model.tasks import TaskSet
from service.core.errors import DuplicateTaskError, NoTasksError
from service.core.selection import select_tasks
from tests.service.fakes import make_tasks

TASKS = TaskSet(make_tasks(5))  # t0, t2: even; t1, t3: odd; kind: kinds


@pytest.mark.parametrize(
    ("selectors", "expected"),
    [
        (None, [0, 1, 2, 3, 4]),
        (["*"], [0, 1, 2, 3, 4]),
        (["kind", "t1"], [4, 1]),
        (["group:odd", "t0"], [1, 3, 0]),
        (["t3", "group:odd"], [3, 1]),
        (["t2", "*"], [2, 0, 1, 3, 4]),
    ],
)
def test_selectors_keep_the_order_asked(selectors: list[str] | None, expected: list[int]) -> None:
    assert select_tasks(TASKS, selectors) == expected


def test_an_empty_selection_is_an_error() -> None:
    with pytest.raises(NoTasksError, match="no tasks left"):
        select_tasks(TASKS, [])


def test_the_same_selector_twice_is_an_error_that_names_it() -> None:
    with pytest.raises(DuplicateTaskError) as caught:
        select_tasks(TASKS, ["t1", "t0", "t1", "group:odd"])
    assert caught.value.details["tasks"] == ["t1"]


def test_unknown_tasks_come_with_the_nearest_names() -> None:
    with pytest.raises(UnknownTaskError) as caught:
        select_tasks(TASKS, ["t0", "kinf", "group:evn"])
    assert caught.value.unknown == ["kinf", "group:evn"]
    assert caught.value.nearest["kinf"] == ["kind"]
    assert "group:even" in caught.value.nearest["group:evn"]


def test_of_endless_selectors_only_so_many_are_looked_at_as_there_are_names() -> None:
    with pytest.raises(UnknownTaskError) as caught:
        select_tasks(TASKS, [*TASKS.names, *(f"x{number}" for number in range(100_000))])
    assert caught.value.unknown == ["x0", "x1", "x2", "x3", "x4"]  # beside "*" and three groups
    with pytest.raises(DuplicateTaskError):
        select_tasks(TASKS, ["*", *TASKS.names, *(f"group:{name}" for name in TASKS.groups), "t0"])
