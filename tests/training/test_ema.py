"""Averaged weights: the formula, its beginning, its way to disk and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.network import RoutedNetwork
from tests.training.conftest import TASKS, tiny, tiny_network
from tests.training.test_state import STATE
from training.ema import AveragedWeights
from training.errors import StateError
from training.optimisation import make_optimiser
from training.state import StateFile


@pytest.fixture
def network() -> RoutedNetwork:
    return tiny_network(tiny())


def fill(network: RoutedNetwork, value: float) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(value)


def first(averaged: AveragedWeights) -> float:
    return next(iter(averaged.state_dict().values())).flatten()[0].item()


def test_the_formula(network: RoutedNetwork) -> None:
    fill(network, 1.0)
    averaged = AveragedWeights(network, 0.75)
    fill(network, 2.0)
    averaged.update(network, step=1000)
    assert first(averaged) == pytest.approx(1.25)
    fill(network, 3.0)
    averaged.update(network, step=1001)
    assert first(averaged) == pytest.approx(0.75 * 1.25 + 0.25 * 3.0)


def test_the_beginning_is_forgotten_fast(network: RoutedNetwork) -> None:
    fill(network, 0.0)
    averaged = AveragedWeights(network, 0.9999)
    fill(network, 1.0)
    for step in range(20):
        averaged.update(network, step)
    assert first(averaged) > 0.99


def test_weights_go_on_while_the_average_waits(network: RoutedNetwork) -> None:
    fill(network, 1.0)
    averaged = AveragedWeights(network, 0.9)
    fill(network, 5.0)
    assert first(averaged) == 1.0
    averaged.copy_to(network)
    assert all((parameter == 1.0).all() for parameter in network.parameters())
    fill(network, 7.0)
    assert first(averaged) == 1.0


def test_it_is_saved_and_restored_with_the_run(network: RoutedNetwork, tmp_path: Path) -> None:
    optimiser, file = make_optimiser(network, tiny()), StateFile(tmp_path)
    averaged = AveragedWeights(network, 0.9)
    with torch.no_grad():
        network.layers[0].conv.weight.add_(1.0)
    averaged.update(network, 100)
    file.save(STATE, network, optimiser, averaged)
    fresh = tiny_network(tiny(seed=5))
    restored = AveragedWeights(fresh, 0.9)
    file.load(fresh, make_optimiser(fresh, tiny()), restored)
    for name, value in averaged.state_dict().items():
        assert torch.equal(restored.state_dict()[name], value), name


def test_a_state_without_averages_does_not_fit(network: RoutedNetwork, tmp_path: Path) -> None:
    optimiser, file = make_optimiser(network, tiny()), StateFile(tmp_path)
    file.save(STATE, network, optimiser)
    with pytest.raises(StateError, match=r"does not fit.*no averaged weights \(ema_decay\)"):
        file.load(network, optimiser, AveragedWeights(network, 0.9))


def test_averages_of_another_network_do_not_fit(network: RoutedNetwork) -> None:
    other = tiny_network(tiny(embedding=0), TASKS)
    with pytest.raises(ValueError, match="no averaged weights"):
        AveragedWeights(network, 0.9).load_state_dict(AveragedWeights(other, 0.9).state_dict())
