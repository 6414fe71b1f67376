"""Which units each task's answer depends on: first-order saliency.

Of a unit with activation ``a`` (a feature map, behind the ReLU) and a task with evidence ``z``:

    saliency = sum over images | sum over space a * dz/da |

the first-order estimate of how far the evidence moves when the unit is switched off (Molchanov et
al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", ICLR 2017, there of
the loss).

The evidence is the log-odds of the labelled class: the logit of a binary task, and of a multi-class
task the logit less the log-sum-exp of the other classes' logits, which is the same thing for two
classes. Not the loss: its gradient carries the factor (1 - p), so a unit that makes the network
right and sure on most images would count for nothing on them. Not a class's logit alone: a unit
that raises all classes' logits alike decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.network import RoutedNetwork
from training.decoding import ImageSet
from training.sources import MISSING

Advance = Callable[[int, int], None]


def unit_scores(
    network: RoutedNetwork,
    images: ImageSet,
    layers: Sequence[int],
    count: int,
    batch_size: int,
    seed: int,
    advance: Advance = lambda done, total: None,
) -> dict[int, Tensor]:
    """Saliency of every unit of ``layers`` for every task: float64 [tasks, units] on the CPU.

    Without routes one forward pass serves all tasks; with routes each task's own subnet is asked,
    and units off its route score 0. Runs in evaluation mode, so that images do not disturb each
    other, and leaves weights, statistics and mode as they were.

    Args:
        layers: convolutions to score, at least one.
        count: how many training images, drawn from ``seed``; all of them where there are fewer.
        advance: told the images done and in total.
    """
    tasks = len(network.tasks)
    device = next(network.parameters()).device
    scores = {
        layer: torch.zeros(tasks, network.layers[layer].shape.units, dtype=torch.float64)
        for layer in layers
    }
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    was_training = network.training
    network.eval()
    try:
        for start in range(0, len(chosen), batch_size):
            batch = np.sort(chosen[start : start + batch_size])
            pixels = torch.from_numpy(images.pixels[batch]).to(device)
            for task, seen, gradient in _gradients(network, pixels, images.labels[batch], layers):
                columns = slice(None) if seen.units is None else seen.units.cpu()
                scores[seen.layer][task, columns] += _saliency(seen.output, gradient)
            advance(min(start + batch_size, len(chosen)), len(chosen))
    finally:
        network.train(was_training)
    return scores


def batch_scores(
    network: RoutedNetwork, x: Tensor, task: int, labels: Tensor, layers: Sequence[int]
) -> dict[int, Tensor]:
    """Saliency of every unit of ``layers`` for one task, over one batch: float64 [units].

    Args:
        x: [N, units, H, W], the input of the first of ``layers``, or of its residual block.
        labels: int64 [N].
    """
    x = x.detach().requires_grad_()
    features, used, activations = _own_layers(network, x, task, layers)
    logits = network.heads.forward_features(features, task, used)
    outputs = [one.output for one in activations]
    gradients = torch.autograd.grad(evidence(logits, labels).sum(), outputs)
    scores = {}
    for one, gradient in zip(activations, gradients, strict=True):
        scores[one.layer] = torch.zeros(network.layers[one.layer].shape.units, dtype=torch.float64)
        columns = slice(None) if one.units is None else one.units.cpu()
        scores[one.layer][columns] = _saliency(one.output, gradient)
    return scores


def shares(scores: Tensor) -> Tensor:
    """Each unit's share of its task's saliency: float64 [tasks, units], rows of sum 1 (or 0)."""
    scores = scores.double()
    return scores / scores.sum(dim=1, keepdim=True).clamp(min=1e-300)


def evidence(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-odds [N] of the labelled class; of the likeliest class where the label is missing.

    Args:
        logits: [N, outputs]; one output makes a binary task.
        labels: int64 [N], class index or MISSING. A binary task needs none: the log-odds of its
            two classes differ in sign only.
    """
    if logits.shape[1] == 1:
        return logits[:, 0]
    classes = torch.where(labels == MISSING, logits.argmax(dim=1), labels)[:, None]
    others = logits.scatter(1, classes, -torch.inf)
    return logits.gather(1, classes)[:, 0] - others.logsumexp(dim=1)


@dataclass(frozen=True, eq=False)
class _Activation:
    """What one layer gave in one pass."""

    layer: int
    units: Tensor | None  # int64, None for all: which units these are
    output: Tensor  # [N, units, H, W]


def _saliency(output: Tensor, gradient: Tensor) -> Tensor:
    """[N, units, H, W] twice -> float64 [units] on the CPU.

    Taken behind the max pool where there is one, with the same result: the pool hands values
    forward and gradients back by the same positions.
    """
    by_image = (output.detach() * gradient).sum(dim=(2, 3))
    return by_image.abs().sum(dim=0).double().cpu()


def _gradients(
    network: RoutedNetwork, pixels: Tensor, labels: NDArray[np.int16], layers: Sequence[int]
) -> Iterator[tuple[int, _Activation, Tensor]]:
    """Every task with every layer's activation and the gradient of its evidence by it."""
    everything = range(len(network.tasks))
    alike = network.first_own == len(network.layers)
    with torch.no_grad():
        before = range(_first(network, layers))
        shared, _ = network.run_to_end(network.normalise(pixels), before, 0)
    shared.requires_grad_()
    for together in [tuple(everything)] if alike else [(task,) for task in everything]:
        features, used, activations = _own_layers(network, shared, together[0], layers)
        for task in together:
            logits = network.heads.forward_features(features, task, used)
            target = torch.from_numpy(labels[:, task].astype(np.int64)).to(pixels.device)
            gradients = torch.autograd.grad(
                evidence(logits, target).sum(),
                [one.output for one in activations],
                retain_graph=task != together[-1],
            )
            for one, gradient in zip(activations, gradients, strict=True):
                yield task, one, gradient


def _own_layers(
    network: RoutedNetwork, x: Tensor, task: int, layers: Sequence[int]
) -> tuple[Tensor, Tensor | None, list[_Activation]]:
    """From the first of ``layers`` (or the image) on: pooled features, which units they are,
    activations."""
    first = _first(network, layers)
    used: Tensor | None = None
    activations = []
    for index, output, units in network.run(x, range(first, len(network.layers)), task):
        x, used = output, units
        if index in layers:
            activations.append(_Activation(index, units, output))
    return x.mean(dim=(2, 3)), used, activations


def _first(network: RoutedNetwork, layers: Sequence[int]) -> int:
    """Where passes of their own begin: the first of ``layers``, or its residual block; the image
    where tasks differ in front of that, and so share nothing."""
    first = network.block_start(min(layers))
    return first if network.first_own >= first else 0
