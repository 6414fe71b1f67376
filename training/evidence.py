"""Routes from evidence: every task keeps the units that its answers depend on most.

The paper draws routes at random and leaves better ones open. Here a network without routes learns
all tasks first; then each task's route is its most salient units (:mod:`training.saliency`), and
training goes on within the routes. In several stages (``keep_stages``) keep shrinks geometrically,
each stage choosing among the units that the one before it left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from model.config import ModelConfig, RoutingConfig
from model.network import RoutedNetwork, drawn_routes
from model.routes import (
    first_of_stream,
    group_index,
    keep_by_layer,
    kept_units,
    placeholder_routes,
)
from model.tasks import Task
from training.config import TrainSettings
from training.decoding import ImageSet
from training.recalibration import SHARED_BATCHES, recalibrate, refresh_shared
from training.route_budget import check_target_cost, counts_for_cost, kept_counts
from training.saliency import shares, unit_scores
from training.samplers import make_sampler

Advance = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""

_STATISTICS_BATCHES = 2
"""Training normalises by its own batches, and the run's end takes statistics anew: until then these
serve the next stage's choice and the curves."""


def start_config(settings: TrainSettings, config: ModelConfig) -> ModelConfig:
    """The network that training starts with: without routes where it is to choose them, towers
    apart where it is to stitch them.

    Raises:
        ConfigError: a target cost that no routes reach.
    """
    if config.family == "cross_stitch":
        return config.replace(family="single_task")
    routing = config.routing
    if routing.scheme != "saliency":
        return config
    if settings.target_cost:
        check_target_cost(config.backbone, settings.image_size, routing, settings.target_cost)
    return config.replace(routing={"routed_layers": "none"})


def check_network(settings: TrainSettings, tasks: Sequence[Task]) -> None:
    """Refuse a network for ``tasks`` that could not be made, before any image is decoded for it.

    Raises:
        ConfigError: its trunks do not fit into memory, its routes cannot be drawn, or cost too
            much.
    """
    config = start_config(settings, settings.network(tuple(tasks), settings.preprocess()))
    if config.family == "routed":
        drawn_routes(config)


def choose_routes(
    network: RoutedNetwork,
    settings: TrainSettings,
    images: ImageSet,
    share: float,
    advance: Advance,
) -> None:
    """Route ``network`` anew by what it has learnt, and take its tasks' statistics.

    Args:
        share: of the way, on a logarithmic scale, from all units to those that the settings keep.
    """
    routing = settings.routing()
    layers = routing.layers(len(network.layers))
    if not settings.shared_start and not any(mask is not None for mask in network.routes):
        # Weights from elsewhere, maybe from a routed network, whose statistics fit its tasks only.
        every = settings.model_copy(update={"sampler": "all"})
        sampler = make_sampler(every, len(images), len(network.tasks))
        refresh_shared(
            network, images.pixels, map(sampler.batch, range(SHARED_BATCHES)), "cut",
            lambda done: advance("batch-norm statistics", done, SHARED_BATCHES),
        )  # fmt: skip
    scores = unit_scores(
        network, images, layers, settings.saliency_images, settings.batch_size, settings.seed,
        lambda done, total: advance("choosing routes", done, total),
    )  # fmt: skip
    groups = group_index([task.group for task in network.tasks])
    for layer in layers[: routing.group_layers]:
        scores[layer] = group_scores(scores[layer], groups)
    streams = [layer.shape.stream for layer in network.layers]
    scores = stream_scores(scores, first_of_stream(layers, streams))
    if settings.target_cost:
        counts = counts_for_cost(network.config, routing, scores, settings.target_cost**share)
    else:
        counts = kept_counts(network.config, routing, share)
    set_chosen(network, routing, best_routes(network.routes, scores, counts))
    batches = min(settings.recalibration_batches, _STATISTICS_BATCHES)
    recalibrate(
        network, images.pixels, batches, settings.batch_size, settings.seed,
        lambda done, total: advance("batch-norm statistics", done, total),
    )  # fmt: skip


def group_scores(scores: Tensor, groups: Tensor) -> Tensor:
    """The mean over each task's group of its members' shares of the saliency: [tasks, units].

    Shares, so that a task with large logits does not outvote the others.

    Args:
        scores: float [tasks, units].
        groups: int64 [tasks], the group of each task.
    """
    members = shares(scores)
    sums = members.new_zeros(int(groups.max()) + 1, scores.shape[1]).index_add(0, groups, members)
    return (sums / groups.bincount()[:, None])[groups]


def stream_scores(scores: Mapping[int, Tensor], first: Mapping[int, int]) -> dict[int, Tensor]:
    """Layers that share a route get one score: the sum of their shares of the saliency.

    Args:
        scores: by layer, float [tasks, units].
        first: by layer, the first that shares its route (:func:`model.routes.first_of_stream`).
    """
    sums: dict[int, Tensor] = {}
    for layer, one in first.items():
        sums[one] = sums.get(one, 0) + shares(scores[layer])
    alone = [layer for layer in first if list(first.values()).count(layer) == 1]
    return {layer: scores[layer] if layer in alone else sums[one] for layer, one in first.items()}


def best_routes(
    present: Sequence[Tensor | None], scores: Mapping[int, Tensor], counts: Mapping[int, int]
) -> list[Tensor | None]:
    """Each task's ``counts`` best units of every layer with scores, of those it uses now.

    Equal scores go by the unit's number, so that equal rows give equal routes everywhere.
    """
    routes: list[Tensor | None] = [None] * len(present)
    for layer, values in scores.items():
        mask = present[layer]
        allowed = torch.ones_like(values, dtype=torch.bool) if mask is None else mask.cpu()
        ranked = values.masked_fill(~allowed, -1.0).argsort(dim=1, descending=True, stable=True)
        best = torch.zeros_like(allowed).scatter(1, ranked[:, : counts[layer]], True)
        routes[layer] = best & allowed
    return routes


def set_chosen(
    network: RoutedNetwork, routing: RoutingConfig, routes: Sequence[Tensor | None]
) -> None:
    """Route ``network`` by ``routes``, its configuration saying what they really keep."""
    kept = {
        layer: (int(mask[0].sum()), mask.shape[1])
        for layer, mask in enumerate(routes)
        if mask is not None
    }
    streams = [layer.shape.stream for layer in network.layers]
    asked = keep_by_layer(routing, len(streams), streams)
    if any(
        count != kept_units(asked[layer], units, routing.unit_multiple)
        for layer, (count, units) in kept.items()
    ):
        kept_shares = tuple(count / units for count, units in kept.values())
        routing = routing.model_copy(update={"keep": kept_shares, "keep_schedule": "constant"})
    network.set_routes(routing, routes)


def make_room(network: RoutedNetwork, routing: RoutingConfig) -> None:
    """Route ``network`` provisionally, for the tensors of a saved routed one to fit in."""
    units = [layer.shape.units for layer in network.layers]
    network.set_routes(routing, placeholder_routes(routing, units, len(network.tasks)))
