"""Probabilities of many images, computed and calibrated as the service does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from model.decision import Floats, probabilities
from model.network import RoutedNetwork
from model.preprocess import Pixels
from model.tasks import Task

BATCH_SIZE = 128


def predict_logits(
    network: RoutedNetwork,
    pixels: Pixels,
    batch_size: int = BATCH_SIZE,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> list[Floats]:
    """Logits of every task for every image, at subnet cost.

    Args:
        pixels: uint8 [N, H, W, 3].
        advance: told the images done and in total.

    Returns:
        For each task [N, outputs], as the network gives them: before calibration.
    """
    network.eval()
    device = next(network.parameters()).device
    everything = range(len(network.tasks))
    parts: list[list[Floats]] = [[] for _ in everything]
    with torch.inference_mode():
        for start in range(0, len(pixels), batch_size):
            images = torch.from_numpy(np.array(pixels[start : start + batch_size])).to(device)
            for part, logits in zip(parts, network.forward_tasks(images, everything), strict=True):
                part.append(logits.float().numpy(force=True))
            advance(min(start + batch_size, len(pixels)), len(pixels))
    return [
        np.concatenate(part or [np.empty((0, task.outputs), dtype=np.float32)])
        for task, part in zip(network.tasks, parts, strict=True)
    ]


def predict(
    network: RoutedNetwork,
    pixels: Pixels,
    batch_size: int = BATCH_SIZE,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> list[Floats]:
    """Calibrated probabilities of every task for every image.

    Args:
        pixels: uint8 [N, H, W, 3].
        advance: told the images done and in total.

    Returns:
        For each task [N] of P(classes[1]) where it is binary, else [N, classes].
    """
    return task_probabilities(network.tasks, predict_logits(network, pixels, batch_size, advance))


def task_probabilities(tasks: Sequence[Task], logits: Sequence[Floats]) -> list[Floats]:
    """Calibrated probabilities from the logits [N, outputs] of each task."""
    return [probabilities(task, part) for task, part in zip(tasks, logits, strict=True)]
