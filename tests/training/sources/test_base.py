"""Data sets: selecting tasks, and reading them as another model's tasks."""

from __future__ import annotations

import numpy as np
import pytest

from model.errors import UnknownTaskError
from model.tasks import Task, TaskSet
from training.errors import DataError
from training.sources import MISSING, Dataset
from training.sources.images import ArrayImages

COLOUR = Task(name="colour", group="look", classes=("blue", "green", "red"))
HAT = Task(name="hat", group="worn")


def dataset(labels: list[list[int]]) -> Dataset:
    count = len(labels)
    return Dataset(
        source="pack:x.npz",
        digest="sha256:0",
        tasks=TaskSet((COLOUR, HAT)),
        labels=np.array(labels, dtype=np.int16),
        split=np.array(["train", "test"] * count)[:count],
        images=ArrayImages(np.zeros((count, 30, 30), np.uint8)),
    )


def test_counts_and_indices() -> None:
    data = dataset([[0, 1], [1, 0], [2, 1]])
    assert data.counts() == {"train": 2, "val": 0, "test": 1}
    assert data.indices("train").tolist() == [0, 2]


def test_selected_tasks_keep_their_labels() -> None:
    data = dataset([[0, 1], [1, 0]]).with_tasks(["group:worn"])
    assert data.tasks.names == ("hat",)
    assert data.labels.tolist() == [[1], [0]]


def test_an_unknown_selection_is_refused() -> None:
    with pytest.raises(UnknownTaskError, match="did you mean 'colour'"):
        dataset([[0, 1]]).with_tasks(["color"])


def test_aligned_takes_the_models_order_and_classes() -> None:
    model = TaskSet(
        (
            HAT,
            Task(name="new"),
            Task(name="colour", classes=("red", "green", "blue", "black"), threshold=0.3),
        )
    )
    data = dataset([[0, 1], [MISSING, 0], [2, MISSING]]).aligned(model)
    assert data.tasks is model
    assert data.labels.tolist() == [
        [1, MISSING, 2],
        [0, MISSING, MISSING],
        [MISSING, MISSING, 0],
    ]
    assert data.notes == ("without labels here: new",)


def test_a_label_that_the_model_has_no_class_for_is_named() -> None:
    model = TaskSet((Task(name="colour", classes=("blue", "green", "black")),))
    with pytest.raises(
        DataError, match=r"image #2 has 'red' for task 'colour', .*: blue, green, black"
    ):
        dataset([[0, 1], [1, 0], [2, 1]]).aligned(model)


def test_an_unused_class_that_the_model_lacks_does_no_harm() -> None:
    model = TaskSet((Task(name="colour", classes=("blue", "green", "black")),))
    assert dataset([[0, 1], [1, 0]]).aligned(model).labels.tolist() == [[0], [1]]


def test_no_task_in_common_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"no tasks left: pack:x\.npz has colour, hat, the model answ"
    ):
        dataset([[0, 1]]).aligned(TaskSet((Task(name="shoe"),)))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"labels of shape \(1, 3\)"):
        dataset([[0, 1, 0]])
