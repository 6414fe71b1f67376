"""Figures of calibration: right probabilities have the least error there is, wrong ones more."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.calibration import (
    WAYS,
    Scored,
    cross_fitted,
    ece,
    figures,
    least_ece,
    log_loss,
    with_fewer,
)
from model.tasks import Task

COUNT = 8


def scored(overconfident: float) -> Scored:
    """Logits that are ``overconfident`` times what they should be."""
    generator = np.random.default_rng(0)
    true = generator.normal(-1, 1, (2, COUNT, 1000, 1)).astype(np.float32)
    labels = (generator.random((2, COUNT, 1000)) < 1 / (1 + np.exp(-true[..., 0]))).astype(np.int16)
    val, test = true * np.float32(overconfident)
    tasks = [Task(name=f"t{index}") for index in range(COUNT)]
    return Scored(tasks, list(val), labels[0].T, list(test), labels[1].T)


@pytest.mark.parametrize("name", [name for name in WAYS if name != "none"])
def test_every_way_mends_what_is_overconfident(name: str) -> None:
    data = scored(2.0)
    before, after = figures(WAYS["none"], data), figures(WAYS[name], data)
    for figure in ("log loss", "log loss, validation", "ECE"):
        assert after[figure] < 0.9 * before[figure]
    assert after["ECE"] == pytest.approx(after["least"], abs=0.008)
    assert before["ECE"] > 2 * before["least"]


def test_fewer_images_calibrate_worse_and_together_better_than_alone() -> None:
    data = scored(2.0)
    alone, together = (
        with_fewer(WAYS[name], data) for name in ("Platt, each task alone", "Platt, drawn together")
    )
    assert alone["100"] > alone["400"]
    assert together["100"] < alone["100"]


def test_no_image_is_predicted_by_a_fit_to_itself() -> None:
    data = scored(1.0)
    seen: list[int] = []

    def remember(tasks: object, logits: object, labels: np.ndarray) -> list[Task]:
        seen.append(len(labels))
        return list(data.tasks)

    said = [(1 / (1 + np.exp(-one[:, 0]))).astype(np.float32) for one in data.val]
    plain = log_loss(said, data.val_labels)
    assert cross_fitted(remember, data) == pytest.approx(plain, abs=1e-4)
    assert seen == [800] * 5


def test_errors_of_known_probabilities() -> None:
    half = np.full(1000, 0.5, np.float32)
    assert ece(half, np.ones(1000, np.int16)) == pytest.approx(0.5)
    assert ece(half, np.arange(1000, dtype=np.int16) % 2) == pytest.approx(0.0)
    assert least_ece([half]) == pytest.approx(0.8 * 0.5 / 1000**0.5, rel=0.4)
    assert log_loss([half], np.ones((1000, 1), np.int16)) == pytest.approx(np.log(2), abs=1e-6)
