from __future__ import annotations

import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from model.errors import ConfigError, UnknownTaskError
from model.tasks import Calibration, Task, TaskSet

TASKS = TaskSet(
    [
        Task(name="boot", group="shoe"),
        Task(name="coat", group="clothes"),
        Task(name="sandal", group="shoe"),
        Task(name="kind", classes=("a", "b", "c")),
        Task(name="two words", group="clothes"),
    ]
)


def test_defaults_make_a_plain_yes_no_question() -> None:
    task = Task(name="boot")
    assert (task.group, task.classes, task.threshold) == ("default", ("no", "yes"), 0.5)
    assert not task.calibrated
    assert (task.calibration.method, task.calibration.scale, task.calibration.shift) == (
        "none",
        1,
        0,
    )


def test_binary_tasks_have_one_logit_and_others_one_per_class() -> None:
    assert (Task(name="t").is_binary, Task(name="t").outputs) == (True, 1)
    kind = Task(name="t", classes=("a", "b", "c"))
    assert (kind.is_binary, kind.outputs) == (False, 3)
    assert Task(name="t", classes=("left", "right")).outputs == 1


@pytest.mark.parametrize(
    "name",
    ["", " ", "a,b", ",", "*", "a*", "*a", " a", "a ", "a\tb", "a\nb", "a\n", "a\0", "\x7f",
     "a" * 201, "group:a", "group:"],
)  # fmt: skip
def test_names_that_could_not_be_asked_for_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        Task(name=name)
    if not name.startswith("group:"):
        with pytest.raises(ValidationError):
            Task(name="a", group=name)


@pytest.mark.parametrize(
    "name", ["a", "has_bill_shape::curved_(up_or_down)", "T-shirt/top", "größe", "靴", "a b", "a:b",
             "group", "a" * 200, "5_o_Clock_Shadow", "=1+2", "#"],
)  # fmt: skip
def test_ordinary_names_are_accepted(name: str) -> None:
    assert TaskSet([Task(name=name, group=name)]).select([name]) == [0]
    assert TaskSet([Task(name=name, group=name)]).select([f"group:{name}"]) == [0]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ((), "has 0 class"),
        (("only",), "has 1 class"),
        (("a", "b", "a"), "names a class twice"),
        (("a", ""), "at least 1 character"),
    ],
)
def test_classes_must_be_two_or_more_different_names(
    classes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        Task(name="t", classes=classes)


@pytest.mark.parametrize(
    "fields",
    [
        {"threshold": -0.01},
        {"threshold": 1.01},
        {"threshold": math.nan},
        {"calibration": {"method": "isotonic"}},
        {"calibration": {"method": "platt", "scale": 0.0}},
        {"calibration": {"method": "platt", "scale": -1.0}},
        {"calibration": {"method": "platt", "scale": math.inf}},
        {"calibration": {"method": "platt", "shift": math.nan}},
        {"treshold": 0.4},
        {"calibration": {"temperature": 2.0}},
    ],
)
def test_bad_fields_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Task.model_validate({"name": "t"} | fields)


def test_tasks_are_immutable_and_comparable() -> None:
    with pytest.raises(ValidationError):
        Task(name="t").name = "u"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Calibration().scale = 2.0  # type: ignore[misc]
    assert Task(name="t") == Task(name="t", group="default")
    assert Task.model_validate_json(Task(name="t").model_dump_json()) == Task(name="t")


def test_a_set_is_a_sequence_of_tasks() -> None:
    assert len(TASKS) == 5
    assert TASKS.names == ("boot", "coat", "sandal", "kind", "two words")
    assert TASKS[1].name == "coat"
    assert [task.name for task in TASKS[3:]] == ["kind", "two words"]
    assert [task.name for task in TASKS] == list(TASKS.names)
    assert TASKS.max_outputs == 3
    assert TASKS.groups == {"shoe": [0, 2], "clothes": [1, 4], "default": [3]}


def test_changing_what_groups_returned_changes_nothing() -> None:
    TASKS.groups["shoe"].append(99)
    assert TASKS.groups["shoe"] == [0, 2]


def test_no_tasks_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        TaskSet([])


def test_names_that_occur_twice_are_listed_once_each() -> None:
    with pytest.raises(ConfigError, match="names occur twice: a, b") as caught:
        TaskSet([Task(name=name) for name in "abacabb"])
    assert caught.value.details == {"tasks": ["a", "b"]}


def test_position() -> None:
    assert TASKS.position("sandal") == 2
    with pytest.raises(UnknownTaskError, match=r"'sandals' \(did you mean 'sandal'"):
        TASKS.position("sandals")


@pytest.mark.parametrize(
    ("selectors", "expected"),
    [
        ([], [0, 1, 2, 3, 4]),
        (["*"], [0, 1, 2, 3, 4]),
        (["sandal", "boot"], [2, 0]),
        (["boot", "sandal", "boot"], [0, 2]),
        (["group:shoe"], [0, 2]),
        (["group:shoe", "boot", "kind"], [0, 2, 3]),
        (["sandal", "group:shoe"], [2, 0]),
        (["two words", "*"], [4, 0, 1, 2, 3]),
        (["group:default", "group:clothes"], [3, 1, 4]),
    ],
)
def test_selection_keeps_the_order_asked_and_drops_repeats(
    selectors: list[str], expected: list[int]
) -> None:
    assert TASKS.select(selectors) == expected


@given(st.lists(st.sampled_from([*TASKS.names, "*", "group:shoe", "group:clothes"]), max_size=8))
def test_any_selection_is_distinct_and_begins_with_the_first_asked(selectors: list[str]) -> None:
    chosen = TASKS.select(selectors)
    assert len(set(chosen)) == len(chosen) > 0
    assert set(chosen) <= set(range(len(TASKS)))
    if selectors:
        assert chosen == TASKS.select([*selectors, *selectors])
        assert chosen[0] == TASKS.select(selectors[:1])[0]
    for selector in selectors:
        assert set(TASKS.select([selector])) <= set(chosen)


def test_every_unknown_selector_is_named_once_with_the_nearest_names() -> None:
    with pytest.raises(UnknownTaskError) as caught:
        TASKS.select(["boot", "boots", "group:shoes", "zzz", "boots", ""])
    assert caught.value.unknown == ["boots", "group:shoes", "zzz", ""]
    assert caught.value.nearest["boots"][0] == "boot"
    assert caught.value.nearest["group:shoes"][0] == "group:shoe"
    assert caught.value.nearest["zzz"] == []


@pytest.mark.parametrize("selector", ["group:", "group:boot", "shoe", "Boot", " boot", "boot,coat"])
def test_near_misses_are_unknown(selector: str) -> None:
    with pytest.raises(UnknownTaskError):
        TASKS.select([selector])


def test_a_flood_of_unknown_names_costs_little_time() -> None:
    tasks = TaskSet([Task(name=f"attribute number {index}") for index in range(312)])
    names = [f"attribute nummer {index} of many" * 10 for index in range(20_000)]
    started = time.process_time()
    with pytest.raises(UnknownTaskError) as caught:
        tasks.select(names)
    assert time.process_time() - started < 3.0  # minutes, were every name compared
    assert len(caught.value.unknown) == 20_000


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ({"scale": 2.0}, "'none' with scale 2 and shift 0; it has scale 1 and shift 0"),
        ({"shift": -0.5}, "'none' with scale 1 and shift -0.5"),
        ({"method": "temperature", "shift": 0.1}, "'temperature' with shift 0.1; only 'platt'"),
    ],
)
def test_a_calibration_does_what_its_method_says(calibration: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Task.model_validate({"name": "t", "calibration": calibration})
