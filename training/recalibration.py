"""Batch-norm statistics taken anew with the final weights.

Running averages lag behind the weights, and a task that had few of the steps has hardly any.
Averaging over some batches per task costs forward passes at subnet cost only, and is right exactly
where each task has statistics of its own: shared ones belong to the mixture that training
normalised with, and are never replaced by one task's. Only where the final weights are averages,
which no training step normalised, are they taken anew too, from steps drawn as in training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from model.batch_norm import BatchNorm
from model.preprocess import Pixels
from model.task_network import TaskNetwork
from training.domains import Domains
from training.samplers import Batch
from training.sources import Labels
from training.steps import Compute, labelled_logits, task_logits

SHARED_BATCHES = 50
"""After so many steps of the running average 0.5 % are left of what was there before."""


def recalibrate(
    network: TaskNetwork,
    pixels: Pixels,
    batches: int,
    batch_size: int,
    seed: int,
    advance: Callable[[int, int], None] = lambda done, total: None,
    *,
    domains: Domains | None = None,
) -> None:
    """Average the statistics of layers that keep them per task over ``batches`` batches.

    Args:
        pixels: training images [N, H, W, 3].
        advance: told the batches done and in total.
        domains: where each task is to see its own domain's images only.
    """
    layers = [m for m in network.modules() if isinstance(m, BatchNorm) and m.per_task]
    if not layers or batches == 0:
        return
    device = next(network.parameters()).device
    everything = [(np.arange(len(pixels)), tuple(range(len(network.tasks))))]
    kinds = everything if domains is None else [
        (domains.images(domain), domains.tasks(domain)) for domain in range(domains.count)
    ]  # fmt: skip
    planned = [
        (chosen, tasks) for images, tasks in kinds
        for chosen in _batches(images, batches, batch_size, seed)
    ]  # fmt: skip
    network.eval()
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_statistics()
        layer.train()  # the shared prefix stays as it is evaluated
        layer.momentum = None
    with torch.inference_mode():
        for done, (chosen, tasks) in enumerate(planned, 1):
            network.forward_tasks(torch.from_numpy(pixels[chosen]).to(device), tasks)
            advance(done, len(planned))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    network.eval()


def _batches(
    images: NDArray[np.int64], batches: int, batch_size: int, seed: int
) -> Iterator[NDArray[np.int64]]:
    """Up to ``batches`` whole batches of ``images``, drawn from ``seed``."""
    order = np.random.default_rng(seed).permutation(images)
    size = min(batch_size, len(images))
    for batch in range(min(batches, len(images) // size)):
        yield np.sort(order[batch * size : (batch + 1) * size])


def refresh_shared(
    network: TaskNetwork,
    pixels: Pixels,
    batches: Iterable[Batch],
    compute: Compute,
    advance: Callable[[int], None] = lambda done: None,
    *,
    labels: Labels | None = None,
) -> None:
    """Let the statistics that tasks share follow weights that no training step has normalised.

    Args:
        pixels: training images [N, H, W, 3].
        batches: images and tasks as the training steps drew them; about SHARED_BATCHES.
        advance: told the batches done.
        labels: [N, T]; needed for batches of labelled pairs only.
    """
    layers = [m for m in network.modules() if isinstance(m, BatchNorm) and not m.per_task]
    if not layers:
        return
    device = next(network.parameters()).device
    network.eval()
    for layer in layers:
        layer.train()
    with torch.inference_mode():
        for done, batch in enumerate(batches, 1):
            images = torch.from_numpy(pixels[batch.images]).to(device)
            if batch.labelled_only and labels is not None:
                known = torch.from_numpy(labels[batch.images].astype(np.int64)).to(device)
                labelled_logits(network, images, known, batch.tasks, compute)
            else:
                task_logits(network, images, batch.tasks, compute)
            advance(done)
    network.eval()
