"""The array form decides exactly as model.decision does, row by row."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.decision import answer
from model.tasks import Calibration, Task, TaskSet
from service.core.decisions import DecisionTable

TASKS = TaskSet(
    [
        Task(name="plain"),
        Task(
            name="calibrated",
            threshold=0.3,
            calibration=Calibration(method="platt", scale=2.5, shift=-1.0),
        ),
        Task(name="kinds", classes=("a", "b", "c", "d")),
        Task(
            name="cooled",
            classes=("x", "y", "z"),
            calibration=Calibration(method="temperature", scale=0.4),
        ),
        Task(name="named", classes=("carried", "worn"), threshold=0.9),
    ]
)
logit = st.floats(-200, 200, width=32)
rows = st.lists(
    st.tuples(st.integers(0, len(TASKS) - 1), st.lists(logit, min_size=4, max_size=4)),
    min_size=1,
    max_size=20,
)


@given(rows)
def test_the_same_decisions_as_one_by_one(given_rows: list[tuple[int, list[float]]]) -> None:
    table = DecisionTable(TASKS)
    task_index = np.array([task for task, _ in given_rows])
    logits = np.array([values for _, values in given_rows], np.float32)
    for row, task in enumerate(task_index):
        logits[row, TASKS[int(task)].outputs :] = -math.inf
    probabilities = table.probabilities(task_index, logits)
    labels = table.labels(task_index, probabilities)
    assert len(table.faulty_rows(task_index, logits)) == 0
    for row, index in enumerate(task_index):
        task = TASKS[int(index)]
        wanted = answer(task, logits[row])
        if task.is_binary:
            assert abs(probabilities[row, 1] - wanted.probability) < 1e-6
            near = abs(wanted.probability - task.threshold) < 1e-6
        else:
            assert wanted.probabilities is not None
            shares = list(wanted.probabilities.values())
            np.testing.assert_allclose(probabilities[row, : len(shares)], shares, atol=1e-6)
            near = sorted(shares)[-1] - sorted(shares)[-2] < 1e-6
        assert near or task.classes[labels[row]] == wanted.label


def test_a_label_always_agrees_with_the_probability_that_is_shown() -> None:
    table = DecisionTable(TaskSet([Task(name="edge", threshold=0.5)]))
    logits = np.array([[0.0], [1e-9], [-1e-9]], np.float32)
    found = table.probabilities(np.zeros(3, np.int64), logits)
    labels = table.labels(np.zeros(3, np.int64), found)
    assert (labels == (found[:, 1] >= 0.5)).all()


def test_padding_is_no_fault_but_anything_else_that_is_not_finite_is() -> None:
    table = DecisionTable(TASKS)
    task_index = np.array([0, 2, 3, 3])
    logits = np.full((4, 4), -math.inf, np.float32)
    logits[0, 0] = 1.0
    logits[1] = (0.0, 1.0, math.nan, 0.0)
    logits[2, :3] = (0.0, 1.0, 2.0)
    logits[3, :3] = (0.0, math.inf, 2.0)
    assert table.faulty_rows(task_index, logits).tolist() == [1, 3]
