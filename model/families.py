"""From a configuration to the network of its family."""

from __future__ import annotations

import torch

from model.baselines.towers import TowerNetwork
from model.config import ModelConfig
from model.network import RoutedNetwork
from model.network import build as build_routed
from model.task_network import TaskNetwork


def unfilled(config: ModelConfig) -> TaskNetwork:
    """A network for a state to be loaded into: its weights are uninitialised where random.

    Raises:
        ConfigError: unknown architecture.
    """
    return RoutedNetwork(config) if config.family == "routed" else TowerNetwork(config)


def build(config: ModelConfig, seed: int = 0) -> TaskNetwork:
    """A network with random weights drawn from ``seed``.

    Raises:
        ConfigError: unknown architecture, or routes that cannot be drawn.
    """
    return build_routed(config, seed) if config.family == "routed" else build_towers(config, seed)


def build_towers(config: ModelConfig, seed: int) -> TowerNetwork:
    """Every tower as the trunk of a routed network of one task, each with a seed of its own."""
    network = TowerNetwork(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        seeds = torch.randint(2**31, (len(network.tasks),)).tolist()
    for index, (task, tower, drawn) in enumerate(
        zip(config.tasks, network.towers, seeds, strict=True)
    ):
        alone = build_routed(
            config.replace(family="routed", tasks=[task.model_dump()], generations=()), drawn
        )
        for layer, source in zip(tower, alone.layers, strict=True):
            layer.load_state_dict(source.state_dict())
        network.heads.copy_task(index, alone.heads, 0)
    return network
