"""The self-check compares with masked float32 and accepts no NaN."""

from __future__ import annotations

import math

import torch

from model.config import BackboneConfig, ModelConfig, PreprocessConfig
from model.network import RoutedNetwork, build
from model.self_check import largest_probability_difference
from model.strategies import make_forward
from model.tasks import Task


def small_network() -> RoutedNetwork:
    return build(
        ModelConfig(
            backbone=BackboneConfig(width=0.125),
            preprocess=PreprocessConfig(height=32, width=32),
            tasks=(Task(name="a"), Task(name="b", classes=("x", "y", "z"))),
        )
    ).eval()


def test_float32_subnets_pass_and_bfloat16_is_measured() -> None:
    network = small_network()
    exact = largest_probability_difference(make_forward(network, "subnet"), network)
    rough = largest_probability_difference(
        make_forward(network, "subnet", dtype=torch.bfloat16), network
    )
    assert exact <= 1e-5 < rough < 0.05


def test_another_networks_forward_is_noticed() -> None:
    network = small_network()
    other = build(network.config, seed=1).eval()
    assert largest_probability_difference(make_forward(other, "subnet"), network) > 1e-3


def test_nan_weights_give_infinity() -> None:
    network = small_network()
    with torch.no_grad():
        network.heads.weight[0, 0] = math.nan
    assert largest_probability_difference(make_forward(network, "subnet"), network) == math.inf
