"""One training step's loss, at the cost of the tasks' own units or of the whole network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from model.network import RoutedNetwork
from training.losses import PLAIN, LossShape, masked_loss

Compute = Literal["cut", "masked"]
Precision = Literal["float32", "bfloat16"]


def task_logits(
    network: RoutedNetwork, images: Tensor, tasks: Sequence[int], compute: Compute
) -> list[Tensor]:
    """Logits [N, outputs] of every task for every image; both ways give the same gradients."""
    if compute == "cut":
        return network.forward_tasks(images, tasks)
    return [network(images, task) for task in tasks]


def step_loss(
    network: RoutedNetwork,
    images: Tensor,
    labels: Tensor,
    tasks: Sequence[int],
    compute: Compute,
    shape: LossShape = PLAIN,
    precision: Precision = "float32",
) -> Tensor:
    """Loss of one step.

    Args:
        images: uint8 [N, H, W, 3].
        labels: int64 [N, len(tasks)], class index or MISSING.
        shape: the loss of one label, for all tasks of the network.
        precision: of convolutions and matrix products; the loss itself is float32.
    """
    autocast = torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16")
    with autocast:
        logits = task_logits(network, images, tasks, compute)
    return masked_loss([one.float() for one in logits], labels, shape.of(tasks))
