"""A head trained on features that do not change: seconds, whatever the network."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.adding.settings import AddSettings
from training.losses import masked_loss

_DECAYS = (0.01, 0.1, 1.0)
"""Of AdamW; which one is right depends on how many labels there are, so validation chooses."""
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True, eq=False)
class Examples:
    """Features with labels, none missing."""

    features: Tensor  # float32 [N, used]
    labels: Tensor  # int64 [N]


@dataclass(frozen=True, eq=False)
class HeadWeights:
    """As :class:`model.heads.TaskHeads` holds them, of the used features only."""

    embed: tuple[Tensor, Tensor] | None  # [embedding, used], [embedding]
    logits: tuple[Tensor, Tensor]  # [outputs, embedding or used], [outputs]


def fit_head(
    train: Examples, val: Examples, outputs: int, embedding: int, settings: AddSettings
) -> HeadWeights:
    """The head with the least validation loss over weight decays and epochs.

    Features are standardised while it trains, so that one learning rate suits all of them; the
    scale is folded into the weights at the end. Without validation images the middle decay's last
    epoch is taken.
    """
    mean = train.features.mean(dim=0)
    spread = train.features.std(dim=0, correction=0)
    scale = torch.where(spread > _LEAST_SPREAD, 1 / spread.clamp(min=_LEAST_SPREAD), 0.0)
    train = Examples((train.features - mean) * scale, train.labels)
    val = Examples((val.features - mean) * scale, val.labels)
    fitted = [
        _fit(train, val, outputs, embedding, decay, settings)
        for decay in (_DECAYS if len(val.labels) else _DECAYS[1:2])
    ]
    _, best = min(fitted, key=lambda one: one[0])
    linear = [layer for layer in best if isinstance(layer, nn.Linear)]
    pairs = [(layer.weight.detach(), layer.bias.detach()) for layer in linear]
    weight, bias = pairs[0]
    pairs[0] = (weight * scale, bias - weight @ (mean * scale))
    return HeadWeights(pairs[0] if embedding else None, pairs[-1])


def _fit(
    train: Examples,
    val: Examples,
    outputs: int,
    embedding: int,
    decay: float,
    settings: AddSettings,
) -> tuple[float, nn.Sequential]:
    """The best epoch's validation loss and layers."""
    used = train.features.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        layers = (
            nn.Sequential(nn.Linear(used, embedding), nn.ReLU(), nn.Linear(embedding, outputs))
            if embedding
            else nn.Sequential(nn.Linear(used, outputs))
        )
    generator = torch.Generator().manual_seed(settings.seed)
    optimiser = torch.optim.AdamW(layers.parameters(), lr=settings.lr, weight_decay=decay)
    batches = math.ceil(len(train.labels) / settings.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.epochs * batches)
    best_loss, best_state = math.inf, layers.state_dict()
    for _ in range(settings.epochs):
        order = torch.randperm(len(train.labels), generator=generator)
        for chosen in torch.split(order, settings.batch_size):
            logits = layers(train.features[chosen])
            loss = masked_loss([logits], train.labels[chosen, None])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        if len(val.labels):
            with torch.no_grad():
                held_out = float(masked_loss([layers(val.features)], val.labels[:, None]))
            if held_out < best_loss:
                state = {name: one.clone() for name, one in layers.state_dict().items()}
                best_loss, best_state = held_out, state
    layers.load_state_dict(best_state)
    return best_loss, layers
