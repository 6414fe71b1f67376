"""Small tower networks for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from model.baselines.cross_stitch import CrossStitch
from model.baselines.towers import TowerNetwork
from model.batch_norm import BatchNorm
from model.config import Family, ModelConfig
from model.families import build_towers
from model.tasks import Task
from tests.model.networks import TASKS, make_config


def tower_config(family: Family, tasks: Sequence[Task] = TASKS, **parts: Any) -> ModelConfig:
    """As :func:`make_config`, with a trunk per task."""
    unrouted = {"keep": 1.0, "routed_layers": "none"}
    config = make_config(tasks, routing=unrouted, **parts)
    return config.replace(family=family)


def make_towers(family: Family, tasks: Sequence[Task] = TASKS, **parts: Any) -> TowerNetwork:
    """A built network in evaluation mode, its statistics and stitches random too."""
    network = build_towers(tower_config(family, tasks, **parts), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, BatchNorm):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.uniform_(0.0, 0.5, generator=generator)  # no unit is dead
                module.running_mean.uniform_(-0.3, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
            elif isinstance(module, CrossStitch):
                module.shares.uniform_(-0.5, 0.5, generator=generator)
        network.heads.bias.uniform_(-0.5, 0.5, generator=generator)
    return network.eval()
