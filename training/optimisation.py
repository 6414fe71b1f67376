"""The optimiser, and the learning rate over a run."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from model.assembly import own_names
from model.batch_norm import BatchNorm
from model.network import RoutedNetwork
from model.task_network import TaskNetwork
from training.config import TrainSettings

_WARM_UP = 0.2
"""Share of a one-cycle run in which the learning rate rises."""
_START = 0.04
"""Where a one-cycle run starts, as a share of the peak."""


def make_optimiser(network: TaskNetwork, settings: TrainSettings) -> torch.optim.Optimizer:
    """SGD with momentum (paper, section 4.3) or AdamW; weight decay on weights only.

    With ``freeze`` "shared" of what belongs to single tasks alone; nothing else gets gradients.
    """
    if settings.freeze == "shared" and isinstance(network, RoutedNetwork):
        freeze_shared(network)
    weights: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    stitches: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.startswith("stitches."):
            stitches.append(parameter)
            continue
        # Decaying a batch-norm scale or a bias only shifts what the next layer makes up for.
        decayed = name.endswith("weight") and ".norm." not in name
        (weights if decayed else others).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if stitches:
        factor = settings.stitch_lr_factor
        groups.append({"params": stitches, "weight_decay": 0.0, "lr_factor": factor})
    if settings.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr)
    return torch.optim.SGD(
        groups,
        lr=settings.lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
    )


def freeze_shared(network: RoutedNetwork) -> None:
    """No gradients for the tensors that tasks share, nor updates of their statistics.

    Shared batch norm then runs as in evaluation, also while the network trains.
    """
    own = set(own_names(network))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in own)
    for name, module in network.named_modules():
        if isinstance(module, BatchNorm):
            module.frozen = f"{name}.running_mean" not in own


def clip_gradients(optimiser: torch.optim.Optimizer, max_norm: float) -> Tensor:
    """Scale all gradients down together to ``max_norm``, unless it is 0 or they are smaller.

    Returns:
        Scalar: their norm before that.
    """
    parameters = [one for group in optimiser.param_groups for one in group["params"]]
    gradients = [one.grad for one in parameters if one.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if max_norm:
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm


def learning_rate(settings: TrainSettings, progress: float) -> float:
    """The rate at ``progress``, the share of the run's steps already done (0 to 1)."""
    if settings.schedule == "constant":
        return settings.lr
    if settings.schedule == "one_cycle":
        if progress < _WARM_UP:
            return settings.lr * (_START + (1 - _START) * progress / _WARM_UP)
        progress = (progress - _WARM_UP) / (1 - _WARM_UP)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the same rate, but for its own factor where it has one."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("lr_factor", 1.0)
