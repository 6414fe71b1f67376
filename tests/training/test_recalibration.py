"""Recalibrated statistics are the averages over the batches, per task, and nothing else moves."""

from __future__ import annotations

import pytest
import torch

from model.batch_norm import BatchNorm
from model.network import RoutedNetwork
from tests.training.conftest import tiny, tiny_images, tiny_network
from training.recalibration import SHARED_BATCHES, recalibrate, refresh_shared
from training.samplers import make_sampler
from training.steps import Compute

PIXELS = tiny_images(24).pixels


def layers(network: RoutedNetwork) -> list[BatchNorm]:
    return [module for module in network.modules() if isinstance(module, BatchNorm)]


def test_one_batch_of_everything_gives_training_mode_in_evaluation_mode() -> None:
    """With statistics of the very batch that is predicted, the two modes agree."""
    network = tiny_network(tiny(norm="batch_per_task"))
    images = torch.from_numpy(PIXELS)
    network.train()
    # The shared prefix has running statistics: bring them to this batch's.
    for layer in layers(network):
        layer.momentum = 1.0
    with torch.no_grad():
        expected = network.forward_tasks(images, range(3))
    recalibrate(network, PIXELS, batches=1, batch_size=24, seed=0)
    with torch.no_grad():
        found = network.forward_tasks(images, range(3))
    for one, other in zip(found, expected, strict=True):
        # Running variance is unbiased, the batch's own is not: a little apart.
        torch.testing.assert_close(one, other, rtol=0.1, atol=0.1)


def test_statistics_are_cumulative_averages_over_batches() -> None:
    network = tiny_network(tiny(norm="batch_per_task"))
    recalibrate(network, PIXELS, batches=3, batch_size=8, seed=0)
    per_task = [layer for layer in layers(network) if layer.per_task]
    assert per_task
    assert all((layer.batches_seen == 3).all() for layer in per_task)
    assert all((layer.running_mean != 0).any() for layer in per_task)
    assert not network.training
    assert all(layer.momentum == 0.1 for layer in layers(network))


def test_what_tasks_share_and_every_weight_stay() -> None:
    network = tiny_network(tiny(norm="batch_per_task"))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    recalibrate(network, PIXELS, batches=2, batch_size=8, seed=0)
    own = {
        f"{name}.{part}"
        for name, module in network.named_modules()
        if isinstance(module, BatchNorm) and module.per_task
        for part in ("running_mean", "running_var", "batches_seen")
    }
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]) == (name not in own), name


@pytest.mark.parametrize(("norm", "batches"), [("batch", 4), ("batch_per_task", 0)])
def test_shared_statistics_are_never_replaced(norm: str, batches: int) -> None:
    network = tiny_network(tiny(norm=norm))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    recalibrate(network, PIXELS, batches=batches, batch_size=8, seed=0)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_fewer_images_than_asked_for_are_used_once_each() -> None:
    network = tiny_network(tiny(norm="batch_per_task"))
    done: list[tuple[int, int]] = []
    recalibrate(
        network, PIXELS, batches=50, batch_size=10, seed=0, advance=lambda *d: done.append(d)
    )
    assert done == [(1, 2), (2, 2)]


def statistics(network: RoutedNetwork, *, per_task: bool) -> list[torch.Tensor]:
    return [one.running_mean.clone() for one in layers(network) if one.per_task == per_task]


@pytest.mark.parametrize("compute", ["cut", "masked"])
def test_shared_statistics_follow_the_weights_as_training_would(compute: Compute) -> None:
    settings = tiny(norm="batch", sampler="paper")
    network = tiny_network(settings)
    expected = tiny_network(settings).train()
    sampler = make_sampler(settings, 24, 3)
    batches = [sampler.batch(step) for step in range(5)]
    with torch.no_grad():
        for batch in batches:
            images = torch.from_numpy(PIXELS[batch.images])
            if compute == "cut":
                expected.forward_tasks(images, batch.tasks)
            else:
                expected(images, batch.tasks[0])
    refresh_shared(network, PIXELS, batches, compute)
    assert not network.training
    for one, other in zip(layers(network), layers(expected), strict=True):
        assert torch.equal(one.running_mean, other.running_mean)
        assert torch.equal(one.running_var, other.running_var)


def test_refreshing_what_is_shared_leaves_what_is_not() -> None:
    settings = tiny(norm="batch_per_task", routed_layers="last:3")
    network = tiny_network(settings)
    before = [statistics(network, per_task=own) for own in (False, True)]
    sampler = make_sampler(settings, 24, 3)
    refresh_shared(network, PIXELS, map(sampler.batch, range(2)), "cut")
    shared, own = (statistics(network, per_task=own) for own in (False, True))
    assert all((one != other).any() for one, other in zip(shared, before[0], strict=True))
    assert all(torch.equal(one, other) for one, other in zip(own, before[1], strict=True))


def test_little_of_the_old_statistics_is_left() -> None:
    assert 0.9**SHARED_BATCHES < 0.006


def test_without_shared_statistics_nothing_is_computed() -> None:
    network = tiny_network(tiny(arch="vgg11"))
    refresh_shared(network, PIXELS, iter(()), "cut", lambda done: pytest.fail("a batch"))
    assert not layers(network)
