"""What a new task has of its own in the layers, trained with its head on frozen features.

Its modulation; with a batch norm for each task also that and its adapters.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from model.assembly import own_names
from model.network import RoutedNetwork
from training.adding.settings import AddSettings
from training.adding.tail import Labelled, integers, tail
from training.losses import masked_loss


def fit_modulation(
    network: RoutedNetwork, train: Labelled, val: Labelled, settings: AddSettings
) -> None:
    """Train them in place; all else of ``network``, which is of one task, stays as it is.

    Kept is the epoch with the least validation loss, or what was there before the first if none is
    better; without validation images the last epoch.
    """
    names = {name for name in own_names(network) if name.startswith("layers.")}
    own = [one for name, one in network.named_parameters() if name in names]
    if not own:
        return
    network.eval().requires_grad_(False)
    learned = [one.requires_grad_() for one in (*own, *network.heads.parameters())]
    optimiser = torch.optim.AdamW(learned, lr=settings.lr, weight_decay=0.0)
    generator = np.random.default_rng(settings.seed)
    best_loss, best = _held_out(network, val), [one.detach().clone() for one in learned]
    for _ in range(settings.modulation_epochs):
        order = generator.permutation(train.rows)
        for start in range(0, len(order), settings.batch_size):
            chosen = np.sort(order[start : start + settings.batch_size])
            labels = integers(train.labels[chosen])
            optimiser.zero_grad()
            _loss(network, train.features.batch(chosen), labels).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        if (held_out := _held_out(network, val)) < best_loss or not len(val.rows):
            best_loss, best = held_out, [one.detach().clone() for one in learned]
    with torch.no_grad():
        for one, value in zip(learned, best, strict=True):
            one.copy_(value)


def _loss(network: RoutedNetwork, x: Tensor, labels: Tensor) -> Tensor:
    """Mean over the images."""
    features, used = tail(network, x)
    return masked_loss([network.heads.forward_features(features, 0, used)], labels[:, None])


@torch.no_grad()
def _held_out(network: RoutedNetwork, val: Labelled) -> float:
    """Mean loss over the labelled images; 0 where there are none."""
    total = sum(float(_loss(network, x, labels)) * len(labels) for x, labels in val.batches())
    return total / max(1, len(val.rows))
