"""Small routed networks and images for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from model.adapters import ParallelAdapter, SeriesAdapter
from model.batch_norm import BatchNorm
from model.config import ModelConfig
from model.modulation import Modulation
from model.network import RoutedNetwork, build
from model.tasks import Task

# Binary and multi-class side by side, in three groups.
TASKS = (
    Task(name="boot", group="shoe"),
    Task(name="kind", group="kind", classes=("a", "b", "c", "d")),
    Task(name="coat", group="clothes"),
    Task(name="sandal", group="shoe"),
    Task(name="size", group="clothes", classes=("s", "m", "l")),
)


def make_config(tasks: Sequence[Task] = TASKS, **parts: Any) -> ModelConfig:
    """A ModelConfig of tiny width (8 units a layer) and 28 px, unless ``parts`` say otherwise."""
    small = {
        "backbone": {"arch": "vgg11_bn", "width": 0.01},
        "routing": {"keep": 0.5, "unit_multiple": 1},
        "head": {"embedding": 4},
        "preprocess": {"height": 28, "width": 28},
    }
    merged = {name: fields | parts.get(name, {}) for name, fields in small.items()}
    return ModelConfig.model_validate(merged | {"tasks": [task.model_dump() for task in tasks]})


def make_network(tasks: Sequence[Task] = TASKS, *, seed: int = 0, **parts: Any) -> RoutedNetwork:
    """A built network in evaluation mode, its batch norm, modulation and adapters random too."""
    return randomised(build(make_config(tasks, **parts), seed), seed)


def randomised(network: RoutedNetwork, seed: int = 0) -> RoutedNetwork:
    """In evaluation mode, with nothing left of zeros, ones and identities."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, BatchNorm):
                _uniform(layer.weight, 0.5, 1.5, generator)
                _uniform(layer.bias, -0.2, 0.5, generator)
                _uniform(layer.running_mean, -0.3, 0.3, generator)
                _uniform(layer.running_var, 0.5, 1.5, generator)
            elif isinstance(layer, Modulation):
                _uniform(layer.scale, 0.5, 1.5, generator)
                if layer.shift is not None:
                    _uniform(layer.shift, -0.2, 0.5, generator)
            elif isinstance(layer, ParallelAdapter | SeriesAdapter):
                _uniform(layer.weight, -0.3, 0.3, generator)
            elif isinstance(layer, nn.Conv2d) and layer.bias is not None:
                _uniform(layer.bias, -0.1, 0.3, generator)
        for bias in (network.heads.bias, network.heads.embed_bias):
            if bias is not None:
                _uniform(bias, -0.5, 0.5, generator)
    return network.eval()


def _uniform(values: Tensor, low: float, high: float, generator: torch.Generator) -> None:
    values.copy_(torch.empty_like(values).uniform_(low, high, generator=generator))


def random_images(network: RoutedNetwork, count: int, seed: int = 0) -> Tensor:
    """uint8 [count, H, W, 3] of the size that ``network`` wants."""
    spec = network.config.preprocess
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(
        0, 256, (count, spec.height, spec.width, 3), dtype=torch.uint8, generator=generator
    )
