"""One training step's loss, at the cost of the tasks' own units or of the whole network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from model.task_network import TaskNetwork
from training.losses import PLAIN, LossShape, masked_loss
from training.sources import MISSING

Compute = Literal["cut", "masked"]
Precision = Literal["float32", "bfloat16"]


def task_logits(
    network: TaskNetwork, images: Tensor, tasks: Sequence[int], compute: Compute
) -> list[Tensor]:
    """Logits [N, outputs] of every task for every image; both ways give the same gradients.

    A network without routes has nothing to mask.
    """
    if compute == "cut" or not network.routes:
        return network.forward_tasks(images, tasks)
    return [network(images, task) for task in tasks]


def labelled_logits(
    network: TaskNetwork, images: Tensor, labels: Tensor, tasks: Sequence[int], compute: Compute
) -> list[Tensor]:
    """Logits [N, outputs] of every task for the images that have a label of it; zeros elsewhere.

    "masked" runs all these pairs as one batch, so that statistics of batch norm that tasks share
    are those of the mixture; "cut" runs images with labels of the same tasks together.

    Args:
        labels: int64 [N, len(tasks)], class index or MISSING.
    """
    observed = labels != MISSING
    logits = [
        torch.zeros(len(images), network.tasks[task].outputs, device=images.device)
        for task in tasks
    ]
    if compute == "masked":
        rows, places = observed.nonzero(as_tuple=True)
        answered = network(images[rows], torch.tensor(tasks, device=rows.device)[places])
        found = [(place, rows[places == place], answered[places == place])
                 for place in range(len(tasks))]  # fmt: skip
    else:
        kinds, kind_of = torch.unique(observed, dim=0, return_inverse=True)
        found = []
        for number, kind in enumerate(kinds):
            alike, asked = (kind_of == number).nonzero().flatten(), kind.nonzero().flatten()
            parts = network.forward_tasks(images[alike], [tasks[place] for place in asked.tolist()])
            found += [(p, alike, part) for p, part in zip(asked.tolist(), parts, strict=True)]
    for place, rows, part in found:
        whole = logits[place]
        logits[place] = whole.index_put((rows,), part[:, : whole.shape[1]].float())
    return logits


def step_loss(
    network: TaskNetwork,
    images: Tensor,
    labels: Tensor,
    tasks: Sequence[int],
    compute: Compute,
    shape: LossShape = PLAIN,
    precision: Precision = "float32",
    *,
    labelled_only: bool = False,
) -> Tensor:
    """Loss of one step.

    Args:
        images: uint8 [N, H, W, 3].
        labels: int64 [N, len(tasks)], class index or MISSING.
        shape: the loss of one label, for all tasks of the network.
        precision: of convolutions and matrix products; the loss itself is float32.
        labelled_only: run no image for a task that it has no label of.
    """
    autocast = torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16")
    with autocast:
        if labelled_only:
            logits = labelled_logits(network, images, labels, tasks, compute)
        else:
            logits = task_logits(network, images, tasks, compute)
    return masked_loss([one.float() for one in logits], labels, shape.of(tasks))
