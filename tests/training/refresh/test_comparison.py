"""Differences of two versions on the same images, and what chance has to do with them."""

from __future__ import annotations

import numpy as np
import pytest

from model.tasks import Task
from training.metrics import task_figures
from training.refresh.comparison import Answers, Comparison, compare_answers
from training.sources import MISSING

HAT = Task(name="hat", threshold=0.4)
KIND = Task(name="kind", group="kinds", classes=("a", "b", "c"))


def labels(count: int = 200) -> np.ndarray:
    generator = np.random.default_rng(1)
    drawn = np.stack([generator.integers(0, 2, count), generator.integers(0, 3, count)], axis=1)
    return drawn.astype(np.int16)


def answers(truth: np.ndarray, noise: float, seed: int, tasks: tuple[Task, Task]) -> Answers:
    """Right answers with so much noise."""
    generator = np.random.default_rng(seed)
    hat = truth[:, 0] + noise * generator.normal(size=len(truth))
    kind = np.eye(3)[truth[:, 1]] + noise * generator.normal(size=(len(truth), 3))
    powers = np.exp(kind)
    return Answers(
        tasks,
        [
            (1 / (1 + np.exp(-4 * (hat - 0.5)))).astype(np.float32),
            (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32),
        ],
    )


def compared(old_noise: float, new_noise: float, resamples: int = 100) -> Comparison:
    truth = labels()
    old, new = (
        answers(truth, noise, seed, (HAT, KIND))
        for seed, noise in enumerate((old_noise, new_noise))
    )
    return compare_answers(old, new, truth, "test", resamples)


def test_a_version_against_itself_has_not_moved() -> None:
    truth = labels()
    same = answers(truth, 0.5, 0, (HAT, KIND))
    found = compare_answers(same, same, truth, "test", 50)
    for task in found.tasks:
        change = task.figures["average_precision"]
        assert (change.difference, change.interval) == (0, (0, 0))
        assert (task.moved.largest, task.moved.mean, task.moved.relabelled) == (0, 0, 0)


def test_figures_are_those_of_the_evaluation() -> None:
    truth = labels()
    old, new = answers(truth, 0.5, 0, (HAT, KIND)), answers(truth, 1.0, 1, (HAT, KIND))
    found = compare_answers(old, new, truth, "test", 50)
    for index, task in enumerate((HAT, KIND)):
        expected = task_figures(task, new.probabilities[index], truth[:, index])
        change = found.tasks[index].figures["average_precision"]
        assert change.new == pytest.approx(expected.average_precision, abs=1e-5)
        assert found.tasks[index].figures["ece"].new == pytest.approx(expected.ece, abs=1e-5)
    mean = np.mean([task.figures["average_precision"].new or 0 for task in found.tasks])
    assert found.macro["average_precision"].new == pytest.approx(mean, abs=1e-5)


def test_a_worse_version_is_worse_beyond_chance_and_an_equal_one_is_not() -> None:
    worse, equal = compared(0.3, 2.0), compared(0.5, 0.5)
    for one, other in zip(worse.tasks, equal.tasks, strict=True):
        high = one.figures["average_precision"].interval
        assert high is not None
        assert high[1] < 0
        low = other.figures["average_precision"].interval
        assert low is not None
        assert low[0] <= 0 <= low[1]
        assert one.moved.relabelled > other.moved.relabelled > 0


def test_pairing_tells_a_difference_that_is_smaller_than_either_interval() -> None:
    truth = labels()
    old = answers(truth, 1.0, 0, (HAT, KIND))
    moved = [probabilities.copy() for probabilities in old.probabilities]
    positive = np.flatnonzero(truth[:, 0] == 1)[:10]
    moved[0][positive] = 0.0  # ten positives are lost, all else is the same
    found = compare_answers(old, Answers(old.tasks, moved), truth, "test", 200)
    change = found.tasks[0].figures["average_precision"]
    assert change.interval is not None
    assert change.interval[1] < 0
    width = change.interval[1] - change.interval[0]
    alone = compared(1.0, 1.0, 200).tasks[0].figures["average_precision"].interval
    assert alone is not None
    assert width < alone[1] - alone[0]


def test_tasks_without_both_classes_are_unknown_and_do_not_count() -> None:
    truth = labels()
    truth[:, 0] = 1
    truth[::2, 1] = MISSING
    one = answers(np.maximum(truth, 0), 0.5, 0, (HAT, KIND))
    found = compare_answers(one, one, truth, "test", 50)
    hat, kind = found.tasks
    assert hat.figures["average_precision"].difference is None
    assert hat.figures["average_precision"].interval is None
    assert hat.figures["ece"].difference == 0
    assert kind.images == 100
    assert found.macro["average_precision"].new == kind.figures["average_precision"].new


def test_no_images_at_all() -> None:
    empty = Answers((HAT, KIND), [np.zeros(0, np.float32), np.zeros((0, 3), np.float32)])
    found = compare_answers(empty, empty, np.zeros((0, 2), np.int16), "test", 50)
    assert found.macro["average_precision"].difference is None
    assert found.tasks[0].moved.largest == 0
