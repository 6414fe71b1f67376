"""Balanced draws: equal shares of classes, from labelled images, as a function of the step."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.conftest import tiny
from training.balance import LabelBalance
from training.errors import SettingsError
from training.samplers import Batch
from training.sources import MISSING


def rare() -> np.ndarray:
    """200 images: 5 positives, 100 unlabelled; three classes; one class only."""
    labels = np.zeros((200, 3), np.int16)
    labels[:5, 0] = 1
    labels[100:, 0] = MISSING
    labels[:, 1] = np.arange(200) % 10 == 0
    labels[7, 1] = 2
    return labels


def redraw(count: int, tasks: tuple[int, ...], step: int = 0, seed: int = 0) -> Batch:
    return LabelBalance(rare(), seed).redraw(Batch(np.arange(count), tasks), step)


def test_half_of_the_images_are_positives_and_none_is_unlabelled() -> None:
    images = redraw(16, (0,)).images
    assert len(images) == 16
    assert np.bincount(rare()[images, 0]).tolist() == [8, 8]
    # Eight places for five positives: all of them, three twice.
    counts = np.bincount(images[images < 5], minlength=5)
    assert sorted(counts) == [1, 1, 2, 2, 2]


def test_no_image_is_repeated_while_others_wait() -> None:
    images = redraw(20, (0,)).images
    negatives = images[images >= 5]
    assert len(set(negatives.tolist())) == len(negatives) == 10


def test_every_class_of_a_multi_class_task_has_its_share() -> None:
    assert np.bincount(rare()[redraw(30, (1,)).images, 1]).tolist() == [10, 10, 10]


def test_a_task_of_one_class_has_that() -> None:
    assert len(redraw(9, (2,)).images) == 9


def test_tasks_share_the_places() -> None:
    batch = redraw(24, (1, 0))
    assert batch.tasks == (1, 0)
    assert len(batch.images) == 24
    labels = rare()[batch.images]
    assert (labels[:, 0] == 1).sum() >= 6
    assert (labels[:, 1] == 2).sum() >= 4


def test_places_left_over_go_round() -> None:
    first = [int((rare()[redraw(3, (0,), step).images, 0] == 1).sum()) for step in range(30)]
    assert set(first) == {1, 2}


def test_a_step_is_a_function_of_its_number_and_the_seed() -> None:
    assert redraw(16, (0, 1), 5).images.tolist() == redraw(16, (0, 1), 5).images.tolist()
    drawn = {tuple(redraw(16, (0, 1), step, seed).images) for step in (5, 6) for seed in (0, 1)}
    assert len(drawn) == 4


def test_all_tasks_at_once_cannot_be_balanced() -> None:
    with pytest.raises(SettingsError, match="'label_balance' needs 'sampler' paper or covering"):
        tiny(label_balance=True, sampler="all")
