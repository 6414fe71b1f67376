"""What is left to train on once images that cannot be read are left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.tasks import TaskSet
from tests.training.conftest import TASKS, tiny_images
from training.decoding import Unreadable
from training.errors import DataError
from training.preparation import check_labelled
from training.sources import MISSING, Dataset
from training.sources.images import ArrayImages


def test_a_task_that_lost_all_its_training_labels_is_named() -> None:
    images = tiny_images()
    split = np.full(len(images), "train")
    everything = ArrayImages(images.pixels)
    dataset = Dataset("csv:x", "sha256:1", TaskSet(TASKS), images.labels, split, everything)
    check_labelled(dataset, images)
    labels = images.labels.copy()
    labels[:, 1] = MISSING
    lost = replace(images, labels=labels, unreadable=(Unreadable("1.png", "empty"),) * 2)
    with pytest.raises(DataError, match=r"csv:x: every .* for shade is one of the 2 that"):
        check_labelled(dataset, lost)
