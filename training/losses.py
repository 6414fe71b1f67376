"""The loss of one step over several tasks, with missing labels left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.config import TrainSettings
from training.sources import MISSING, Labels


@dataclass(frozen=True, eq=False)
class LossShape:
    """What makes the loss of one label differ from plain cross-entropy; by default nothing does."""

    positive_weight: Tensor | None = None
    """float32 [tasks of the network]: factor of a binary task's positives; None for all ones."""
    focal_gamma: float = 0.0
    """A label's loss is multiplied by (1 - p)^gamma, p the probability given to that label
    (Lin et al., "Focal Loss for Dense Object Detection", 2017, equation 4)."""
    smoothing: float = 0.0
    """This share of a label's weight is spread evenly over all classes of its task."""

    def of(self, tasks: Sequence[int]) -> LossShape:
        """The same for a step of ``tasks`` only, in that order."""
        if self.positive_weight is None:
            return self
        return LossShape(self.positive_weight[list(tasks)], self.focal_gamma, self.smoothing)


PLAIN = LossShape()


def masked_loss(logits: Sequence[Tensor], labels: Tensor, shape: LossShape = PLAIN) -> Tensor:
    """Mean over tasks' observed labels: binary cross-entropy, or cross-entropy over the classes.

    Args:
        logits: one [N, outputs] per task; one output makes a binary task.
        labels: int64 [N, tasks], class index or MISSING.
        shape: weights of positives, for these tasks; focal factor; label smoothing.

    Returns:
        Scalar: the sum over observed labels divided by their number (0 where none is observed).
        Missing labels get no gradient at all.
    """
    observed = labels != MISSING
    binary = [index for index, output in enumerate(logits) if output.shape[1] == 1]
    total = logits[0].new_zeros(())
    if binary:
        joined = torch.cat([logits[index] for index in binary], dim=1)  # [N, binary tasks]
        weight = None if shape.positive_weight is None else shape.positive_weight[binary]
        losses = _binary_losses(joined, labels[:, binary].clamp(min=0), weight, shape)
        total = total + (losses * observed[:, binary]).sum()
    for index, output in enumerate(logits):
        if output.shape[1] > 1:
            total = total + _class_losses(output, labels[:, index], shape)
    return total / observed.sum().clamp(min=1)


def _binary_losses(
    logits: Tensor, labels: Tensor, weight: Tensor | None, shape: LossShape
) -> Tensor:
    """One loss per label, all [N, tasks]."""
    targets = labels.to(logits.dtype)
    smoothed = targets * (1 - shape.smoothing) + shape.smoothing / 2 if shape.smoothing else targets
    losses = F.binary_cross_entropy_with_logits(
        logits, smoothed, reduction="none", pos_weight=weight
    )
    if shape.focal_gamma:
        # (1 - p)^gamma by way of its logarithm, which has a finite gradient where p rounds to 1.
        losses = losses * (shape.focal_gamma * F.logsigmoid(logits * (1 - 2 * targets))).exp()
    return losses


def _class_losses(logits: Tensor, labels: Tensor, shape: LossShape) -> Tensor:
    """Sum over the observed ones of ``labels`` [N]; ``logits`` [N, classes]."""
    if not shape.focal_gamma:
        return F.cross_entropy(
            logits, labels, ignore_index=MISSING, reduction="sum", label_smoothing=shape.smoothing
        )
    losses = F.cross_entropy(
        logits, labels, ignore_index=MISSING, reduction="none", label_smoothing=shape.smoothing
    )
    chosen = F.one_hot(labels.clamp(min=0), logits.shape[1]).bool()
    others = logits.masked_fill(chosen, -torch.inf).logsumexp(dim=1)  # log of 1 - p, unnormalised
    return (losses * (shape.focal_gamma * (others - logits.logsumexp(dim=1))).exp()).sum()


def positive_weights(labels: Labels, limit: float) -> Tensor:
    """Negatives per positive of every task, within [1 / limit, limit]; float32 [tasks].

    Both classes of a binary task then have the same say in its loss, up to the limit. A task
    without positives or without negatives has 1.

    Args:
        labels: [N, tasks], those of the training images.
        limit: largest factor, at least 1.
    """
    positives = (labels == 1).sum(axis=0)
    negatives = (labels == 0).sum(axis=0)
    both = (positives > 0) & (negatives > 0)
    ratio = np.where(both, negatives / np.maximum(positives, 1), 1.0)
    return torch.from_numpy(ratio.clip(1 / limit, limit).astype(np.float32))


def loss_shape(settings: TrainSettings, labels: Labels, device: torch.device) -> LossShape:
    """The loss that ``settings`` describe, for training images with ``labels`` [N, tasks]."""
    limit = settings.positive_weight_limit
    return LossShape(
        positive_weights(labels, limit).to(device) if limit else None,
        settings.focal_gamma,
        settings.label_smoothing,
    )
