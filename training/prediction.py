"""Probabilities of many images, computed and calibrated as the service does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from model.decision import Floats, probabilities
from model.preprocess import Pixels
from model.task_network import TaskNetwork
from model.tasks import Task
from training.domains import find_domains
from training.sources import Labels

BATCH_SIZE = 128


def predict_logits(
    network: TaskNetwork,
    pixels: Pixels,
    batch_size: int = BATCH_SIZE,
    advance: Callable[[int, int], None] = lambda done, total: None,
    *,
    labels: Labels | None = None,
) -> list[Floats]:
    """Logits of every task for every image, at subnet cost.

    Args:
        pixels: uint8 [N, H, W, 3].
        advance: told the images done and in total.
        labels: [N, tasks]; where they are of several domains, images are asked the tasks of their
            own, and the logits of others are 0. None: every image is asked every task.

    Returns:
        For each task [N, outputs], as the network gives them: before calibration.
    """
    network.eval()
    device = next(network.parameters()).device
    found = [np.zeros((len(pixels), task.outputs), np.float32) for task in network.tasks]
    done = 0
    with torch.inference_mode():
        for rows, tasks in _asked(len(pixels), len(network.tasks), labels):
            for start in range(0, len(rows), batch_size):
                part = rows[start : start + batch_size]
                images = torch.from_numpy(np.array(pixels[part])).to(device)
                answered = network.forward_tasks(images, tasks)
                for task, logits in zip(tasks, answered, strict=True):
                    found[task][part] = logits.float().numpy(force=True)
                done += len(part)
                advance(done, len(pixels))
    return found


def _asked(
    images: int, tasks: int, labels: Labels | None
) -> Iterator[tuple[NDArray[np.int64], Sequence[int]]]:
    """Images with the tasks that each of them is asked."""
    domains = None if labels is None else find_domains(labels)
    if domains is None or domains.count == 1:
        yield np.arange(images), range(tasks)
        return
    for domain in range(domains.count):
        yield domains.images(domain), domains.tasks(domain)


def predict(
    network: TaskNetwork,
    pixels: Pixels,
    batch_size: int = BATCH_SIZE,
    advance: Callable[[int, int], None] = lambda done, total: None,
    *,
    labels: Labels | None = None,
) -> list[Floats]:
    """Calibrated probabilities of every task for every image.

    Args:
        pixels: uint8 [N, H, W, 3].
        advance: told the images done and in total.
        labels: as of :func:`predict_logits`.

    Returns:
        For each task [N] of P(classes[1]) where it is binary, else [N, classes].
    """
    logits = predict_logits(network, pixels, batch_size, advance, labels=labels)
    return task_probabilities(network.tasks, logits)


def task_probabilities(tasks: Sequence[Task], logits: Sequence[Floats]) -> list[Floats]:
    """Calibrated probabilities from the logits [N, outputs] of each task."""
    return [probabilities(task, part) for task, part in zip(tasks, logits, strict=True)]
