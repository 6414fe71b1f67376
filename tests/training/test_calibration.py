"""Calibration: known distortions are found, rare tasks stay near the identity."""

from __future__ import annotations

import numpy as np
import pytest

from model.decision import probabilities
from model.tasks import Calibration, Task
from training.calibration import ENOUGH, Method, calibrated, fit_calibration
from training.sources import MISSING

HAT = Task(name="hat")
KIND = Task(name="kind", classes=("a", "b", "c"))


def binary(count: int, scale: float, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits [N, 1] whose truth has odds exp(scale * logit + shift)."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(-1, 2, (count, 1)).astype(np.float32)
    chance = 1 / (1 + np.exp(-(scale * logits[:, 0] + shift)))
    return logits, (generator.random(count) < chance).astype(np.int16)


def classes(count: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (count, 3)).astype(np.float32)
    noise = generator.gumbel(size=(count, 3))
    return logits, (scale * logits + noise).argmax(axis=1).astype(np.int16)


def test_platt_finds_scale_and_shift() -> None:
    found = fit_calibration(*binary(20_000, 0.6, -1.2), "platt")
    assert found.method == "platt"
    assert (found.scale, found.shift) == pytest.approx((0.6, -1.2), abs=0.06)


def test_temperature_finds_the_scale_and_leaves_the_decision_at_half() -> None:
    found = fit_calibration(*binary(20_000, 0.5, 0.0), "temperature")
    assert found == Calibration(method="temperature", scale=found.scale)
    assert found.scale == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("method", ["platt", "temperature"])
def test_multi_class_tasks_have_a_temperature(method: Method) -> None:
    found = fit_calibration(*classes(20_000, 0.4), method)
    assert (found.method, found.shift) == ("temperature", 0.0)
    assert found.scale == pytest.approx(0.4, abs=0.03)


def test_it_is_the_minimum_of_the_penalised_loss() -> None:
    logits, labels = binary(60, 0.5, -1.0)
    sign = np.where(labels == 1, 1.0, -1.0)

    def loss(scale: float, shift: float) -> float:
        margin = sign * (scale * logits[:, 0] + shift)
        return float(np.logaddexp(0, -margin).sum() + 2 * (scale - 1) ** 2 + 0.5 * shift**2)

    found = fit_calibration(logits, labels, "platt")
    for scale, shift in ((0.01, 0), (-0.01, 0), (0, 0.01), (0, -0.01)):
        assert loss(found.scale + scale, found.shift + shift) > loss(found.scale, found.shift)


def test_few_labels_move_it_little() -> None:
    distances = []
    for count in (10, 100, 10_000):
        found = fit_calibration(*binary(count, 0.3, -3.0, seed=2), "platt")
        distances.append(abs(found.scale - 1) + abs(found.shift))
    assert distances == sorted(distances)
    assert distances[0] < 0.6 * distances[-1]


def test_logits_that_say_the_opposite_keep_their_order() -> None:
    logits, labels = binary(2_000, 1.0, 0.0)
    found = fit_calibration(-logits, labels, "platt")
    assert found.scale == 0.05
    base_rate = labels.mean()
    mean = probabilities(HAT.model_copy(update={"calibration": found}), -logits).mean()
    assert mean == pytest.approx(base_rate, abs=0.02)


def test_huge_logits_and_separated_classes_stay_finite() -> None:
    logits = np.array([[-1e4], [-1e3], [1e3], [1e4]], np.float32)
    found = fit_calibration(logits, np.array([0, 0, 1, 1], np.int16), "platt")
    assert found.scale == pytest.approx(1.0, abs=1e-3)
    wrong = fit_calibration(logits, np.array([1, 0, 1, 0], np.int16), "platt")
    assert np.isfinite([wrong.scale, wrong.shift]).all()


@pytest.mark.parametrize(("positives", "enough"), [(ENOUGH - 1, False), (ENOUGH, True)])
def test_rare_tasks_are_moved_but_not_called_calibrated(positives: int, enough: bool) -> None:
    logits = np.linspace(-5, 5, 400, dtype=np.float32)[:, None]
    labels = np.zeros((400, 1), np.int16)
    labels[-positives:] = 1
    (task,) = calibrated([HAT], [logits], labels, "platt")
    assert task.calibrated == enough
    assert task.calibration.shift < 0


def test_missing_labels_are_left_out() -> None:
    logits, labels = binary(500, 0.5, -1.0)
    column = labels[:, None].copy()
    column[300:] = MISSING
    (task,) = calibrated([HAT], [logits], column, "platt")
    assert task.calibration == fit_calibration(logits[:300], labels[:300], "platt")


@pytest.mark.parametrize("label", [0, 1, MISSING])
def test_one_class_alone_changes_nothing(label: int) -> None:
    labels = np.full((50, 1), label, np.int16)
    assert calibrated([HAT], [np.ones((50, 1), np.float32)], labels, "platt") == (HAT,)


def test_a_class_without_labels_leaves_a_multi_class_task_uncalibrated() -> None:
    logits, labels = classes(300, 0.5)
    labels[labels == 2] = 1
    (task,) = calibrated([KIND], [logits], labels[:, None], "temperature")
    assert not task.calibrated
    assert task.calibration.method == "temperature"


def test_none_leaves_the_tasks_alone() -> None:
    logits, labels = binary(200, 0.5, 0.0)
    assert calibrated([HAT], [logits], labels[:, None], "none") == (HAT,)
