"""Figures against values worked out by hand, and what the data cannot say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from model.tasks import Task
from training.metrics import AVERAGED, group_figures, mean_figures, task_figures
from training.sources import MISSING

HAT = Task(name="hat", threshold=0.3)
KIND = Task(name="kind", group="other", classes=("a", "b", "c"))

SCORES = np.array([0.9, 0.4, 0.35, 0.2, 0.1, 0.05], np.float32)
LABELS = np.array([1, 1, 0, 1, 0, MISSING], np.int16)


def test_binary_figures_by_hand() -> None:
    figures = task_figures(HAT, SCORES, LABELS)
    # at 0.3: said 1 1 1 0 0; true 1 1 0 1 0
    assert figures.images == 5
    assert figures.positive_rate == pytest.approx(3 / 5)
    assert figures.majority == pytest.approx(3 / 5)
    assert figures.accuracy == pytest.approx(3 / 5)
    assert figures.accuracy_at_half == pytest.approx(3 / 5)  # said 1 0 0 0 0
    assert figures.precision == pytest.approx(2 / 3)
    assert figures.recall == pytest.approx(2 / 3)
    assert figures.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert figures.f1 == pytest.approx(2 / 3)
    assert figures.average_precision == pytest.approx((1 + 1 + 3 / 4) / 3)
    assert figures.auroc == pytest.approx(5 / 6)  # of 6 pairs, 0.35 before 0.2 is wrong
    assert figures.balanced_accuracy_at_half == pytest.approx((1 / 3 + 1) / 2)
    # Each score alone in its bin of a fifteenth, but 0.35 and 0.4, of which 0.6 - 0.35 is left.
    errors = [0.1, 0.6 - 0.35, 0.8, 0.1]
    assert figures.ece == pytest.approx(sum(errors) / 5)
    assert figures.rate_error == pytest.approx(abs(sum([0.9, 0.4, 0.35, 0.2, 0.1]) / 5 - 3 / 5))
    assert figures.threshold == 0.3


def test_a_score_at_the_threshold_is_positive_as_in_the_service() -> None:
    scores = np.array([0.5, 0.25], np.float32)
    figures = task_figures(Task(name="t", threshold=0.25), scores, np.array([1, 1], np.int16))
    assert figures.accuracy == 1.0
    assert figures.accuracy_at_half == 0.5


def test_multi_class_figures_by_hand() -> None:
    scores = np.array(
        [[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]],
        np.float32,
    )
    labels = np.array([0, 0, 1, 0, MISSING], np.int16)  # said 0 1 1 0; class c never occurs
    figures = task_figures(KIND, scores, labels)
    assert figures.images == 4
    assert figures.majority == pytest.approx(3 / 4)
    assert figures.accuracy == pytest.approx(3 / 4)
    assert figures.recall == figures.balanced_accuracy == pytest.approx((2 / 3 + 1) / 2)
    assert figures.precision == pytest.approx((1 + 1 / 2) / 2)
    assert figures.f1 == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert figures.average_precision == pytest.approx(1.0)
    assert figures.auroc == pytest.approx(1.0)
    # Likeliest classes 0.8 right, 0.6 wrong, 0.7 right, 0.6 right.
    assert figures.ece == pytest.approx((0.2 + abs(1.2 - 1) + 0.3) / 4)
    assert figures.rate_error is None
    assert figures.balanced_accuracy_at_half is None
    assert figures.positive_rate is None
    assert figures.accuracy_at_half is None
    assert figures.threshold is None


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_gives_accuracy_only(label: int) -> None:
    figures = task_figures(HAT, SCORES, np.full(6, label, np.int16))
    assert figures.majority == 1.0
    assert figures.accuracy is not None
    for name in ("precision", "recall", "balanced_accuracy", "f1", "average_precision", "auroc"):
        assert getattr(figures, name) is None


@pytest.mark.parametrize("task", [HAT, KIND])
def test_no_label_at_all_gives_nothing(task: Task) -> None:
    scores = np.full((4,) if task.is_binary else (4, 3), 1 / 3, np.float32)
    figures = task_figures(task, scores, np.full(4, MISSING, np.int16))
    assert figures.images == 0
    assert all(getattr(figures, name) is None for name in AVERAGED)


def test_no_image_at_all_gives_nothing() -> None:
    figures = task_figures(HAT, np.empty(0, np.float32), np.empty(0, np.int16))
    assert all(getattr(figures, name) is None for name in AVERAGED)


def test_means_are_over_the_tasks_that_have_the_figure() -> None:
    known = task_figures(HAT, SCORES, LABELS)
    unknown = task_figures(HAT, SCORES, np.full(6, MISSING, np.int16))
    assert mean_figures([known, unknown]) == mean_figures([known])
    assert mean_figures([unknown])["accuracy"] is None
    mean = mean_figures([known, task_figures(HAT, SCORES, np.array([1, 1, 0, 0, 0, 0], np.int16))])
    assert mean["average_precision"] == pytest.approx((2.75 / 3 + 1) / 2)


def test_groups_keep_their_tasks_apart() -> None:
    scores = np.eye(3, dtype=np.float32)
    figures = {
        "hat": task_figures(HAT, SCORES, LABELS),
        "kind": task_figures(KIND, scores, np.array([0, 1, 2], np.int16)),
    }
    groups = group_figures([HAT, KIND], figures)
    assert list(groups) == ["default", "other"]
    assert groups["other"]["accuracy"] == 1.0
    assert groups["default"]["accuracy"] == pytest.approx(3 / 5)


def test_figures_are_json_numbers() -> None:
    text = json.dumps(task_figures(HAT, SCORES, LABELS).to_json(), allow_nan=False)
    assert json.loads(text)["images"] == 5
