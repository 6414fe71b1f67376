"""Measured mean and deviation against numpy's."""

from __future__ import annotations

import numpy as np
import pytest

from model.config import PreprocessConfig
from training.normalisation import measured


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
