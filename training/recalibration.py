"""Batch-norm statistics of each task, taken anew with the final weights.

Running averages lag behind the weights, and a task that had few of the steps has hardly any.
Averaging over some batches per task costs forward passes at subnet cost only, and is right exactly
where each task has statistics of its own: shared ones belong to the mixture that training
normalised with, and are never replaced by one task's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from model.batch_norm import BatchNorm
from model.network import RoutedNetwork
from model.preprocess import Pixels


def recalibrate(
    network: RoutedNetwork,
    pixels: Pixels,
    batches: int,
    batch_size: int,
    seed: int,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Average the statistics of layers that keep them per task over ``batches`` batches.

    Args:
        pixels: training images [N, H, W, 3].
        advance: told the batches done and in total.
    """
    layers = [m for m in network.modules() if isinstance(m, BatchNorm) and m.per_task]
    if not layers or batches == 0:
        return
    device = next(network.parameters()).device
    order = np.random.default_rng(seed).permutation(len(pixels))
    size = min(batch_size, len(pixels))
    batches = min(batches, len(pixels) // size)
    network.eval()
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_statistics()
        layer.train()  # the shared prefix stays as it is evaluated
        layer.momentum = None
    with torch.inference_mode():
        for batch in range(batches):
            chosen = np.sort(order[batch * size : (batch + 1) * size])
            network.forward_tasks(
                torch.from_numpy(pixels[chosen]).to(device), range(len(network.tasks))
            )
            advance(batch + 1, batches)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    network.eval()
