"""Learning rates and weight decay."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.assembly import own_names
from model.network import RoutedNetwork
from tests.training.conftest import tiny, tiny_network
from tests.training.test_trainer import Quiet, trainer, weights
from tests.training.towers import STITCHED, tiny_towers
from training.errors import SettingsError
from training.optimisation import clip_gradients, learning_rate, make_optimiser, set_learning_rate


def test_constant_stays() -> None:
    assert {learning_rate(tiny(lr=0.2), progress) for progress in (0.0, 0.5, 1.0)} == {0.2}


def test_cosine_falls_from_the_peak_to_nothing() -> None:
    rates = [learning_rate(tiny(lr=0.2, schedule="cosine"), step / 10) for step in range(11)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[5] == pytest.approx(0.1)
    assert rates[10] == pytest.approx(0)
    assert rates == sorted(rates, reverse=True)


def test_one_cycle_rises_for_a_fifth_and_then_falls_to_nothing() -> None:
    rates = [learning_rate(tiny(lr=0.2, schedule="one_cycle"), step / 100) for step in range(101)]
    assert max(rates) == pytest.approx(0.2)
    assert rates.index(max(rates)) == 20
    assert 0 < rates[0] < 0.02
    assert rates[100] == pytest.approx(0)


def test_the_papers_optimiser() -> None:
    settings = tiny(lr=0.01, momentum=0.5)
    optimiser = make_optimiser(tiny_network(settings), settings)
    assert isinstance(optimiser, torch.optim.SGD)
    assert {(g["lr"], g["momentum"], g["nesterov"]) for g in optimiser.param_groups} == {
        (0.01, 0.5, False)
    }
    set_learning_rate(optimiser, 0.3)
    assert {g["lr"] for g in optimiser.param_groups} == {0.3}


@pytest.mark.parametrize("modulation", ["none", "scale_shift"])
def test_weight_decay_spares_all_but_weights_and_every_parameter_is_in_one_group(
    modulation: str,
) -> None:
    settings = tiny(weight_decay=0.1, modulation=modulation)
    network = tiny_network(settings)
    decayed, spared = make_optimiser(network, settings).param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    names = {id(one): name for name, one in network.named_parameters()}
    assert {id(one) for one in decayed["params"] + spared["params"]} == set(names)
    spared_names = [names[id(one)] for one in spared["params"]]
    assert any(".norm." in name for name in spared_names)
    kinds = (".norm.", ".modulation.", "bias")
    assert all(any(kind in name for kind in kinds) for name in spared_names)
    assert all(one.ndim > 1 for one in decayed["params"])


@pytest.mark.parametrize("adapters", ["none", "series", "parallel"])
def test_what_tasks_share_can_be_frozen(tmp_path: Path, adapters: str) -> None:
    parts = {"arch": "resnet18", "norm": "batch_per_domain", "adapters": adapters}
    one = trainer(tmp_path, sampler="all", freeze="shared", init_from="m/1", epochs=1, **parts)
    before = weights(one)
    one.fit(Quiet())
    assert isinstance(one.network, RoutedNetwork)
    own = set(own_names(one.network))
    moved = {name for name, value in weights(one).items() if not torch.equal(value, before[name])}
    assert moved <= own
    assert {name for name in own if "weight" in name} <= moved
    assert sum("adapter" in name for name in moved) > 0 or adapters == "none"


def test_frozen_batch_norm_that_tasks_share_keeps_its_statistics(tmp_path: Path) -> None:
    one = trainer(tmp_path, norm="batch", sampler="all", freeze="shared", init_from="m/1")
    before = weights(one)
    one.fit(Quiet())
    moved = {name for name, value in weights(one).items() if not torch.equal(value, before[name])}
    assert moved == {"heads.embed_weight", "heads.embed_bias", "heads.weight", "heads.bias"}


def test_frozen_random_convolutions_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"'freeze' is 'shared' and 'init_from' is empty"):
        tiny(freeze="shared")


def test_adamw_by_setting() -> None:
    settings = tiny(optimiser="adamw", lr=0.001, weight_decay=0.1)
    optimiser = make_optimiser(tiny_network(settings), settings)
    assert isinstance(optimiser, torch.optim.AdamW)
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.1, 0.0]


def _with_gradients(*values: float) -> tuple[torch.optim.Optimizer, list[torch.Tensor]]:
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in values]
    for parameter, value in zip(parameters, values, strict=True):
        parameter.grad = torch.tensor([value])
    unused = torch.nn.Parameter(torch.zeros(1))
    gradients = [one.grad for one in parameters if one.grad is not None]
    return torch.optim.SGD([*parameters, unused], lr=1.0), gradients


@pytest.mark.parametrize(
    ("limit", "expected"), [(0.0, [3.0, 4.0]), (10.0, [3.0, 4.0]), (1.0, [0.6, 0.8])]
)
def test_gradients_are_scaled_together_to_the_norm(limit: float, expected: list[float]) -> None:
    optimiser, gradients = _with_gradients(3.0, 4.0)
    assert clip_gradients(optimiser, limit).item() == pytest.approx(5.0)
    assert [one.item() for one in gradients] == pytest.approx(expected, rel=1e-5)


def test_a_gradient_that_is_no_number_shows_in_the_norm() -> None:
    optimiser, _ = _with_gradients(1.0, float("nan"))
    assert clip_gradients(optimiser, 0.0).isnan()


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(SettingsError, match="'nesterov' needs a 'momentum' above 0"):
        tiny(nesterov=True, momentum=0)


def test_stitches_learn_at_a_rate_of_their_own_without_decay() -> None:
    settings = tiny(**STITCHED, weight_decay=0.1, stitch_lr_factor=50)
    network = tiny_towers(settings)
    network.stitch()
    optimiser = make_optimiser(network, settings)
    stitches = optimiser.param_groups[-1]
    assert {id(one) for one in stitches["params"]} == {
        id(one) for one in network.stitches.parameters()
    }
    set_learning_rate(optimiser, 0.02)
    assert [group["lr"] for group in optimiser.param_groups] == [0.02, 0.02, 1.0]
    assert stitches["weight_decay"] == 0.0
