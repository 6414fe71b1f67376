"""The loss of one step over several tasks, with missing labels left out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from training.sources import MISSING


def masked_loss(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Mean over tasks' observed labels: binary cross-entropy, or cross-entropy over the classes.

    Args:
        logits: one [N, outputs] per task; one output makes a binary task.
        labels: int64 [N, tasks], class index or MISSING.

    Returns:
        Scalar: the sum over observed labels divided by their number (0 where none is observed).
        Missing labels get no gradient at all.
    """
    observed = labels != MISSING
    known = labels.clamp(min=0)
    binary = [index for index, output in enumerate(logits) if output.shape[1] == 1]
    total = logits[0].new_zeros(())
    if binary:
        joined = torch.cat([logits[index] for index in binary], dim=1)  # [N, binary tasks]
        targets = known[:, binary].to(joined.dtype)
        losses = F.binary_cross_entropy_with_logits(joined, targets, reduction="none")
        total = total + (losses * observed[:, binary]).sum()
    for index, output in enumerate(logits):
        if output.shape[1] > 1:
            target = labels[:, index]
            total = total + F.cross_entropy(output, target, ignore_index=MISSING, reduction="sum")
    return total / observed.sum().clamp(min=1)
