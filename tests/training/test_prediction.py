"""Predictions are the service's: same logits, same calibration, any batch size."""

from __future__ import annotations

import numpy as np
import torch

from model.decision import probabilities
from model.rows import RowBatch
from model.strategies import make_forward
from model.tasks import Calibration, Task
from tests.training.conftest import TASKS, tiny, tiny_images, tiny_network
from training.prediction import predict


def test_they_are_what_the_service_would_answer() -> None:
    tasks = (
        Task(name="platt", calibration=Calibration(method="platt", scale=2.0, shift=-0.5)),
        *TASKS,
    )
    network = tiny_network(tiny(), tasks).eval()
    pixels = tiny_images(5).pixels
    predicted = predict(network, pixels, batch_size=2)
    batch = RowBatch.all_pairs(torch.from_numpy(pixels), range(len(tasks)))
    logits = make_forward(network, "masked")(batch).numpy().reshape(5, len(tasks), -1)
    for index, task in enumerate(tasks):
        expected = probabilities(task, logits[:, index])
        assert predicted[index].shape == expected.shape
        np.testing.assert_allclose(predicted[index], expected, atol=1e-5)


def test_progress_ends_at_the_number_of_images() -> None:
    done: list[tuple[int, int]] = []
    network = tiny_network(tiny())
    predict(network, tiny_images(5).pixels, 2, lambda *counts: done.append(counts))
    assert done == [(2, 5), (4, 5), (5, 5)]


def test_no_image_gives_empty_predictions() -> None:
    network = tiny_network(tiny())
    shapes = [one.shape for one in predict(network, np.empty((0, 28, 28, 3), np.uint8))]
    assert shapes == [(0,), (0, 3), (0,)]
