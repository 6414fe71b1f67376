"""Thresholds against trying every possible one."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.sources import MISSING
from training.thresholds import Objective, choose_threshold

OBJECTIVES: tuple[Objective, ...] = get_args(Objective)


def value(said: np.ndarray, truth: np.ndarray, objective: Objective) -> float:
    hits = float((said & truth).sum())
    if objective == "accuracy":
        return float((said == truth).mean())
    if objective == "balanced_accuracy":
        specificity = float((~said & ~truth).sum()) / float((~truth).sum())
        return (hits / float(truth.sum()) + specificity) / 2
    if not hits:
        return 0.0
    precision, recall, beta = hits / said.sum(), hits / truth.sum(), float(objective[1:])
    return float((1 + beta**2) * precision * recall / (beta**2 * precision + recall))


@given(
    rows=st.lists(
        st.tuples(st.sampled_from([0.1, 0.25, 0.5, 0.7, 0.9, 0.99]), st.integers(-1, 1)),
        min_size=1,
        max_size=40,
    ),
    objective=st.sampled_from(OBJECTIVES),
)
def test_no_other_threshold_is_better(rows: list[tuple[float, int]], objective: Objective) -> None:
    scores = np.array([score for score, _ in rows], np.float32)
    labels = np.array([label for _, label in rows], np.int16)
    threshold = choose_threshold(scores, labels, objective)
    observed = labels != MISSING
    truth = labels[observed] == 1
    if not truth.any() or truth.all():
        assert threshold == 0.5
        return
    seen = scores[observed]
    best = max(value(seen >= other, truth, objective) for other in np.unique(seen))
    assert value(seen >= threshold, truth, objective) == pytest.approx(best)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_it_lies_half_way_between_separated_classes(objective: Objective) -> None:
    scores = np.array([0.1, 0.2, 0.6, 0.8], np.float32)
    labels = np.array([0, 0, 1, 1], np.int16)
    assert choose_threshold(scores, labels, objective) == pytest.approx(0.4)


def test_probabilities_of_a_very_rare_class_are_told_apart() -> None:
    scores = np.array([1e-8, 2e-8, 4e-7, 5e-7], np.float32)
    labels = np.array([0, 0, 1, 1], np.int16)
    threshold = choose_threshold(scores, labels, "balanced_accuracy")
    assert ((scores >= threshold) == (labels == 1)).all()
    threshold = choose_threshold(1 - scores[::-1], labels, "balanced_accuracy")
    assert ((1 - scores[::-1] >= threshold) == (labels == 1)).all()


def test_objectives_differ_where_positives_are_rare() -> None:
    scores = np.array([0.05] * 90 + [0.3] * 9 + [0.3] * 3 + [0.9], np.float32)
    labels = np.array([0] * 99 + [1] * 4, np.int16)
    assert choose_threshold(scores, labels, "balanced_accuracy") < 0.3
    assert choose_threshold(scores, labels, "accuracy") > 0.3


def test_the_smaller_beta_is_the_more_precision_counts() -> None:
    scores = np.repeat(np.array([0.9, 0.6, 0.2, 0.1], np.float32), [3, 6, 6, 10])
    labels = np.repeat(np.array([1, 1, 0, 1, 0], np.int16), [3, 3, 3, 2, 14])
    chosen = [choose_threshold(scores, labels, one) for one in ("f0.5", "f1", "f2")]
    assert chosen == pytest.approx([0.75, 0.4, 0.15])


@pytest.mark.parametrize("labels", [[0, 0], [1, 1], [MISSING, MISSING], [1, MISSING], []])
def test_one_class_alone_says_nothing(labels: list[int]) -> None:
    scores = np.linspace(0.1, 0.2, len(labels), dtype=np.float32)
    assert choose_threshold(scores, np.array(labels, np.int16), "f1") == 0.5
