"""What tasks have in common is learnt from all of them, and how much it says from their spread."""

from __future__ import annotations

import numpy as np
import pytest

from model.tasks import Task
from training.calibration import calibrated, fit_calibration
from training.shared_prior import FEWEST_TASKS, Evidence, Prior, shared_priors

WIDE = Prior(np.array([1.0, 0.0]), np.diag([4.0, 1.0]))


def many(
    count: int, images: int, scale: float, offset: float, spread: float
) -> tuple[list[Task], list[np.ndarray], np.ndarray, np.ndarray]:
    """Tasks whose true scale and offset lie about these: logits, labels, true (scale, shift)."""
    generator = np.random.default_rng(3)
    truth = np.array([scale, offset]) + spread * generator.normal(size=(count, 2))
    logits = generator.normal(-1.5, 1.5, (count, images, 1)).astype(np.float32)
    chance = 1 / (1 + np.exp(-(truth[:, :1] * logits[:, :, 0] + truth[:, 1:])))
    labels = (generator.random((count, images)) < chance).astype(np.int16).T
    return [Task(name=f"t{index}") for index in range(count)], list(logits), labels, truth


def found(tasks: list[Task], logits: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
    fits = [task.calibration for task in calibrated(tasks, logits, labels, "platt")]
    return np.array([[fit.scale, fit.shift] for fit in fits])


def alone(logits: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
    fits = [fit_calibration(one, labels[:, index], "platt") for index, one in enumerate(logits)]
    return np.array([[fit.scale, fit.shift] for fit in fits])


def test_tasks_that_are_off_alike_are_calibrated_by_all_their_labels() -> None:
    tasks, logits, labels, truth = many(30, 200, scale=0.7, offset=0.3, spread=0.02)
    together = np.abs(found(tasks, logits, labels) - truth).mean(axis=0)
    by_itself = np.abs(alone(logits, labels) - truth).mean(axis=0)
    assert (together < 0.6 * by_itself).all()


def test_tasks_that_are_off_each_its_own_way_are_calibrated_by_their_own() -> None:
    tasks, logits, labels, truth = many(12, 4000, scale=1.5, offset=0.0, spread=0.4)
    together = np.abs(found(tasks, logits, labels) - truth)
    assert together.max() < 0.2
    assert np.abs(found(tasks, logits, labels) - alone(logits, labels)).max() < 0.05


def test_a_rare_task_follows_the_others() -> None:
    tasks, logits, labels, _ = many(20, 2000, scale=0.5, offset=0.0, spread=0.01)
    labels[:, 7] = 0
    labels[np.argsort(logits[7][:, 0])[-4:], 7] = 1
    found_scale = found(tasks, logits, labels)[7, 0]
    assert found_scale == pytest.approx(0.5, abs=0.1)
    assert alone(logits, labels)[7, 0] > 0.8


def test_too_few_tasks_say_nothing_about_each_other() -> None:
    tasks, logits, labels, _ = many(FEWEST_TASKS, 100, scale=0.7, offset=0.3, spread=0.02)
    assert np.abs(found(tasks, logits, labels) - alone(logits, labels)).max() > 0.05
    few = FEWEST_TASKS - 1
    assert (
        found(tasks[:few], logits[:few], labels[:, :few]) == alone(logits[:few], labels[:, :few])
    ).all()


def test_tasks_with_one_class_have_no_part_in_it() -> None:
    tasks, logits, labels, _ = many(FEWEST_TASKS + 1, 100, scale=0.7, offset=0.3, spread=0.02)
    labels[:, 0] = 1
    first, *rest = calibrated(tasks, logits, labels, "platt")
    assert first == tasks[0]
    assert tuple(rest) == calibrated(tasks[1:], logits[1:], labels[:, 1:], "platt")


def test_scale_and_offset_are_about_each_tasks_own_centre() -> None:
    """Tasks with nothing to say of their own get the others' scale and offset, moved to theirs."""
    sure, vague = 1e6 * np.eye(2), 1e-9 * np.eye(2)
    known = [
        Evidence(sure, sure @ np.array([0.5, 0.2 + 0.5 * centre]), centre)
        for centre in (-3.0, -2.0, -1.0, 0.0)  # scale 0.5, offset 0.2 at every centre
    ]
    (*_, last) = shared_priors([*known, Evidence(vague, np.zeros(2), -4.0)], WIDE)
    assert last.mean == pytest.approx([0.5, 0.2 - 2.0], abs=0.02)
    at_centre = np.array([-4.0, 1.0])  # one logit there: a direction that is the offset alone
    assert np.linalg.inv(last.precision)[0, 0] < 0.02
    assert at_centre @ np.linalg.inv(last.precision) @ at_centre < 0.02
