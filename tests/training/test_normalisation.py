"""Measured mean and deviation against numpy's."""

from __future__ import annotations

import numpy as np
import pytest

from model.config import PreprocessConfig
from model.tasks import Task
from training.decoding import ImageSet
from training.normalisation import measured, measured_by_domain
from training.sources import MISSING


def test_mean_and_deviation_per_channel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1030, 28, 28, 3)).astype(np.uint8)
    pixels[..., 1] //= 2
    spec = measured(PreprocessConfig(height=28, width=28), pixels)
    assert spec.mean == pytest.approx((pixels / 255).mean(axis=(0, 1, 2)), abs=1e-5)
    assert spec.std == pytest.approx((pixels / 255).std(axis=(0, 1, 2)), abs=1e-5)


def test_the_rest_stays() -> None:
    spec = PreprocessConfig(height=30, width=40, fit="pad", background=(1, 2, 3))
    pixels = np.full((2, 30, 40, 3), 51, np.uint8)
    found = measured(spec, pixels)
    assert (found.height, found.width, found.fit, found.background) == (30, 40, "pad", (1, 2, 3))
    assert found.mean == pytest.approx((0.2, 0.2, 0.2))


def test_a_constant_channel_does_not_divide_by_zero() -> None:
    found = measured(PreprocessConfig(height=28, width=28), np.zeros((2, 28, 28, 3), np.uint8))
    assert found.mean == (0.0, 0.0, 0.0)
    assert min(found.std) > 0.003


def test_every_task_has_the_statistics_of_its_own_domain() -> None:
    pixels = np.random.default_rng(0).integers(0, 100, (40, 28, 28, 3)).astype(np.uint8)
    pixels[25:] += 90
    labels = np.full((40, 3), MISSING, np.int16)
    labels[:25, 0] = labels[:10, 2] = labels[25:, 1] = 1
    tasks = tuple(Task(name=name) for name in "abc")
    a, b, c = measured_by_domain(tasks, ImageSet(pixels, labels))
    assert a.normalisation == c.normalisation
    for task, own in ((a, pixels[:25]), (b, pixels[25:])):
        assert task.normalisation is not None
        assert task.normalisation.mean == pytest.approx((own / 255).mean(axis=(0, 1, 2)), abs=1e-5)
        assert task.normalisation.std == pytest.approx((own / 255).std(axis=(0, 1, 2)), abs=1e-5)
