from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.decision import Floats, answer, probabilities
from model.tasks import Calibration, Task

BINARY = Task(name="boot")
KIND = Task(name="kind", classes=("a", "b", "c"))
PLATT = Calibration(method="platt", scale=2.0, shift=-1.0)
LOGITS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def row(*values: float) -> Floats:
    """One row of logits, padded as the network pads it."""
    return np.array([*values, *[-math.inf] * (5 - len(values))], dtype=np.float32)


def test_a_binary_probability_is_the_sigmoid() -> None:
    logits = np.linspace(-20, 20, 81, dtype=np.float32)[:, None]
    expected = 1.0 / (1.0 + np.exp(-logits[:, 0].astype(np.float64)))
    assert np.allclose(probabilities(BINARY, logits), expected, rtol=1e-6)


def test_a_multi_class_probability_is_the_softmax() -> None:
    logits = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]], dtype=np.float32)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.allclose(probabilities(KIND, logits), expected, rtol=1e-6)


@given(LOGITS)
def test_binary_probabilities_of_any_logit_are_in_range_and_symmetric(logit: float) -> None:
    yes, no = (float(probabilities(BINARY, row(sign * logit))) for sign in (1, -1))
    assert 0.0 <= yes <= 1.0
    assert yes + no == pytest.approx(1.0)


@given(st.lists(LOGITS, min_size=3, max_size=3), st.floats(-100, 100))
def test_multi_class_probabilities_of_any_logits_sum_to_one(
    logits: list[float], moved: float
) -> None:
    found = probabilities(KIND, row(*logits))
    assert found.shape == (3,)
    assert bool(((found >= 0) & (found <= 1)).all())
    assert float(found.sum()) == pytest.approx(1.0, abs=1e-5)
    assert found[int(np.argmax(logits))] == found.max()
    small = np.clip(np.array(logits), -50, 50).astype(np.float32)
    shifted = (small + np.float32(moved)).astype(np.float32)
    assert np.allclose(
        probabilities(KIND, small[None]), probabilities(KIND, shifted[None]), atol=1e-3
    )


def test_huge_logits_are_certain_not_nan() -> None:
    assert float(probabilities(BINARY, row(3e38))) == 1.0
    assert float(probabilities(BINARY, row(-3e38))) == 0.0
    assert probabilities(KIND, row(3e38, -3e38, 0)).tolist() == [1.0, 0.0, 0.0]
    assert probabilities(KIND, row(3e38, 3e38, 0)).tolist() == [0.5, 0.5, 0.0]
    steep = Task(name="t", calibration=Calibration(method="platt", scale=1e30))
    assert float(probabilities(steep, row(-3e38))) == 0.0


@given(st.floats(-8, 8), st.floats(0.1, 4), st.floats(-3, 3))
def test_calibration_moves_the_logit_before_the_sigmoid(
    logit: float, scale: float, shift: float
) -> None:
    task = Task(name="t", calibration=Calibration(method="platt", scale=scale, shift=shift))
    expected = 1 / (1 + math.exp(-(scale * float(np.float32(logit)) + shift)))
    assert float(probabilities(task, row(logit))) == pytest.approx(expected, rel=1e-5)


def test_temperature_flattens_without_changing_the_order() -> None:
    warm = KIND.model_copy(update={"calibration": Calibration(method="temperature", scale=0.5)})
    logits = row(1.0, 3.0, 2.0)
    assert np.allclose(
        probabilities(warm, logits), probabilities(KIND, row(0.5, 1.5, 1.0)), rtol=1e-6
    )
    assert probabilities(warm, logits).argsort().tolist() == [0, 2, 1]


@pytest.mark.parametrize("task", [BINARY, KIND])
def test_padding_is_ignored_and_batches_equal_single_rows(task: Task) -> None:
    rng = np.random.default_rng(0)
    bare = rng.normal(size=(4, 2, task.outputs)).astype(np.float32)
    padding = np.full((4, 2, 5 - task.outputs), -np.inf, dtype=np.float32)
    padded = np.concatenate([bare, padding], axis=2)
    assert np.array_equal(probabilities(task, padded), probabilities(task, bare))
    assert np.array_equal(probabilities(task, padded)[2, 1], probabilities(task, padded[2, 1]))
    padded[..., task.outputs :] = np.nan
    assert np.array_equal(probabilities(task, padded), probabilities(task, bare))


def test_the_logits_are_left_alone() -> None:
    logits = row(1.0, 2.0, 3.0)
    before = logits.copy()
    answer(KIND, logits)
    assert np.array_equal(logits, before)


@pytest.mark.parametrize(
    ("threshold", "logit", "label"),
    [(0.5, 0.0, "yes"), (0.5, -0.01, "no"), (0.5, 0.01, "yes"), (0.41, -0.3, "yes"),
     (0.9, 2.0, "no"), (0.0, -100.0, "yes"), (1.0, 10.0, "no"), (1.0, 200.0, "yes")],
)  # fmt: skip
def test_a_binary_label_follows_the_task_s_own_threshold(
    threshold: float, logit: float, label: str
) -> None:
    found = answer(Task(name="t", threshold=threshold), row(logit))
    assert (found.label, found.threshold, found.probabilities) == (label, threshold, None)


def test_a_binary_probability_is_that_of_the_second_class_whatever_the_label() -> None:
    task = Task(name="side", classes=("left", "right"), calibrated=True, calibration=PLATT)
    found = answer(task, row(-1.0))
    assert (found.task, found.label, found.calibrated) == ("side", "left", True)
    assert found.probability == pytest.approx(1 / (1 + math.exp(3.0)))


def test_a_multi_class_answer_names_the_likeliest_class_and_all_of_them() -> None:
    found = answer(KIND, row(0.0, 2.0, 1.0))
    assert (found.label, found.threshold, found.calibrated) == ("b", None, False)
    assert found.probabilities is not None
    assert list(found.probabilities) == ["a", "b", "c"]
    assert found.probability == found.probabilities["b"] == max(found.probabilities.values())
    assert sum(found.probabilities.values()) == pytest.approx(1.0)


def test_answers_are_plain_data() -> None:
    for task in (BINARY, KIND):
        assert json.loads(json.dumps(asdict(answer(task, row(0.1, 0.2, 0.3)))))["task"] == task.name
