"""Chosen routes: the best units, as many as asked, and a network that says what it keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from model.errors import ConfigError
from model.network import RoutedNetwork
from model.tasks import Task
from tests.training.conftest import TASKS, tiny, tiny_images, tiny_network
from training.config import TrainSettings
from training.evidence import (
    best_routes,
    choose_routes,
    group_scores,
    make_room,
    set_chosen,
    start_config,
)
from training.route_budget import task_cost

IMAGES = tiny_images(24)
SALIENCY = {"scheme": "saliency", "routed_layers": "last:2", "keep": 0.25}


def quiet(what: str, done: int, total: int) -> None:
    pass


def routed(
    settings: TrainSettings, shares: tuple[float, ...] = (1.0,), tasks: tuple[Task, ...] = TASKS
) -> RoutedNetwork:
    network = tiny_network(settings, tasks)
    for share in shares:
        choose_routes(network, settings, IMAGES, share, quiet)
    return network


def masks(network: RoutedNetwork) -> list[Tensor]:
    return [mask for mask in network.routes if mask is not None]


def test_training_starts_without_routes_where_it_is_to_choose_them() -> None:
    network = tiny_network(tiny(**SALIENCY))
    assert masks(network) == []
    drawn = tiny(scheme="independent")
    config = drawn.network(TASKS, drawn.preprocess())
    assert start_config(drawn, config) is config


def test_a_target_cost_out_of_reach_is_refused_before_training() -> None:
    settings = tiny(**SALIENCY).model_copy(update={"target_cost": 0.0001})
    with pytest.raises(ConfigError, match=r"target_cost is 0\.0001"):
        start_config(settings, settings.network(TASKS, settings.preprocess()))


@pytest.mark.parametrize("norm", ["batch", "batch_per_task"])
def test_every_task_keeps_what_the_settings_say(norm: str) -> None:
    settings = tiny(**SALIENCY, norm=norm)
    network = routed(settings)
    assert [mask is not None for mask in network.routes] == [False] * 6 + [True] * 2
    for mask in masks(network):
        assert mask.sum(dim=1).tolist() == [16, 16, 16]  # of 64
    assert network.config.routing == settings.routing()
    assert not torch.equal(masks(network)[1][0], masks(network)[1][1])
    last = network.layers[7].norm
    assert last is not None
    assert last.per_task == (norm == "batch_per_task")


@pytest.mark.parametrize(("batches", "taken"), [(1, 1), (3, 2)])
def test_statistics_are_each_tasks_own_from_the_start(batches: int, taken: int) -> None:
    network = routed(tiny(**SALIENCY, recalibration_batches=batches, norm="batch_per_task"))
    last = network.layers[7].norm
    assert last is not None
    assert last.batches_seen.tolist() == [taken] * 3
    assert not torch.equal(last.running_mean[0], last.running_mean[1])


def test_weights_from_elsewhere_are_judged_with_statistics_of_these_images() -> None:
    """A routed bundle's statistics are its tasks': a network without routes begins with none."""
    settings = tiny(**SALIENCY, norm="batch_per_task", shared_start=0, init_from="elsewhere")
    network = routed(settings)
    trained = tiny_network(settings)
    with torch.no_grad():
        images = torch.from_numpy(IMAGES.pixels)
        expected = trained.layers[0].conv(trained.normalise(images)).mean(dim=(0, 2, 3))
    first, second = network.layers[0].norm, network.layers[1].norm
    assert first is not None
    assert second is not None
    torch.testing.assert_close(first.running_mean[0], expected, rtol=0.05, atol=0.02)
    assert (second.running_mean != 0).any()
    seen = second.running_mean.clone()
    choose_routes(network, settings, IMAGES, 1.0, quiet)  # a later stage trusts what training kept
    assert torch.equal(second.running_mean, seen)


def test_stages_shrink_keep_among_the_units_that_are_left() -> None:
    settings = tiny(**SALIENCY)
    network = tiny_network(settings)
    before = [torch.ones(3, 64, dtype=torch.bool)] * 2
    for share, kept in ((0.5, 32), (0.75, 22), (1.0, 16)):
        choose_routes(network, settings, IMAGES, share, quiet)
        for old, new in zip(before, masks(network), strict=True):
            assert new.sum(dim=1).tolist() == [kept] * 3
            assert not (new & ~old).any()
        before = masks(network)
        keep = network.config.routing.keep
        assert keep == (0.25 if share == 1.0 else (kept / 64, kept / 64))


@pytest.mark.parametrize("target", [0.1, 0.3])
def test_a_target_cost_finds_keep_per_layer_and_the_config_says_it(target: float) -> None:
    settings = tiny(**(SALIENCY | {"routed_layers": "last:4"}), target_cost=target)
    network = routed(settings, (0.5, 1.0))
    keep = network.config.routing.keep
    assert isinstance(keep, tuple)
    for share, mask in zip(keep, masks(network), strict=True):
        assert mask.sum(dim=1).tolist() == [share * mask.shape[1]] * 3
        assert int(mask[0].sum()) % settings.unit_multiple == 0
    counts = {4 + index: int(mask[0].sum()) for index, mask in enumerate(masks(network))}
    shapes = [layer.shape for layer in network.layers]
    cost = task_cost(shapes, settings.image_size, counts)
    assert 0.7 * target < cost <= target


def test_groups_share_the_first_layers_routes() -> None:
    tasks = (Task(name="bright", group="g"), TASKS[1], Task(name="left", group="g"))
    network = routed(tiny(**SALIENCY, group_layers=1), (0.5, 1.0), tasks)
    first, second = masks(network)
    assert torch.equal(first[0], first[2])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(second[0], second[2])


def test_a_groups_score_is_its_members_mean_share() -> None:
    scores = torch.tensor([[8.0, 2.0, 0.0], [1.0, 1.0, 2.0], [0.0, 0.1, 0.1]])
    found = group_scores(scores, torch.tensor([0, 1, 0]))
    expected = torch.tensor([[0.4, 0.35, 0.25], [0.25, 0.25, 0.5], [0.4, 0.35, 0.25]])
    torch.testing.assert_close(found, expected.double())
    assert (group_scores(torch.zeros(2, 3), torch.tensor([0, 0])) == 0).all()


def test_the_best_of_the_present_units_ties_by_number() -> None:
    scores = {1: torch.tensor([[5.0, 1.0, 3.0, 3.0], [0.0, 0.0, 0.0, 0.0]])}
    free = best_routes([None, None], scores, {1: 2})
    assert free[0] is None
    assert free[1] is not None
    assert free[1].tolist() == [[True, False, True, False], [True, True, False, False]]
    present = torch.tensor([[False, True, False, True], [False, True, True, True]])
    within = best_routes([None, present], scores, {1: 2})
    assert within[1] is not None
    assert within[1].tolist() == [[False, True, False, True], [False, True, True, False]]
    fewer = best_routes([None, present], scores, {1: 3})
    assert fewer[1] is not None
    assert fewer[1].sum(dim=1).tolist() == [2, 3]


@pytest.mark.parametrize("changes", [{}, {"target_cost": 0.1}])
def test_a_saved_network_finds_room_and_says_the_same(changes: dict[str, Any]) -> None:
    settings = tiny(**SALIENCY, **changes)
    network = routed(settings)
    other = tiny_network(settings)
    make_room(other, settings.routing())
    other.load_state_dict(network.state_dict())
    set_chosen(other, settings.routing(), other.routes)
    assert other.config == network.config
    images = torch.from_numpy(IMAGES.pixels)
    for task in range(3):
        assert torch.equal(other.eval()(images, task), network.eval()(images, task))


def test_progress_is_told_for_both_passes() -> None:
    settings = tiny(**SALIENCY, saliency_images=16, norm="batch_per_task")
    told: list[tuple[str, int, int]] = []
    choose_routes(tiny_network(settings), settings, IMAGES, 1.0, lambda *given: told.append(given))
    assert told == [
        ("choosing routes", 8, 16),
        ("choosing routes", 16, 16),
        ("batch-norm statistics", 1, 2),
        ("batch-norm statistics", 2, 2),
    ]
