"""Routes: which units of a layer each task uses. Drawn from a seed, or given; stored as they are.

A layer's routes are one bool tensor [tasks, units] (the paper's mask M, section 3.1). The network
does not care who chose them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model.config import RoutingConfig
from model.errors import ConfigError

Streams = Sequence[int | None]
"""By layer: layers with the same number share one route (:mod:`model.backbones.resnet`)."""


def draw_routes(
    config: RoutingConfig, units: Sequence[int], groups: Sequence[str], streams: Streams = ()
) -> list[Tensor | None]:
    """Routes of every layer: bool [tasks, units], or None where the layer is not routed.

    ``units`` are the layers' output channels, ``groups`` the group of each task. The draw depends
    on the seed, the layer's index and the shapes only, so equal configurations give equal routes.

    Args:
        streams: empty: every layer has routes of its own.

    Raises:
        ConfigError: a keep fraction that leaves a task without units, too many tasks for
            disjoint subnets, or a scheme whose routes come from training.
    """
    if config.scheme == "saliency":
        raise ConfigError(
            "scheme 'saliency': its routes are chosen in training, from what a network without "
            "routes has learnt, so there are none to draw; train one, or take scheme 'independent'"
        )
    layers = config.layers(len(units))
    keeps, first = keep_by_layer(config, len(units), streams), first_of_stream(layers, streams)
    routes: list[Tensor | None] = []
    for layer, count in enumerate(units):
        if layer not in keeps:
            routes.append(None)
            continue
        if first[layer] != layer:
            routes.append(routes[first[layer]])
            continue
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + layer)
        by_group = config.scheme == "tree" and layers.index(layer) < config.group_layers
        members = group_index(groups) if by_group else torch.arange(len(groups))
        drawn = _draw_layer(config, keeps[layer], count, int(members.max()) + 1, generator)
        routes.append(drawn[members])
    return routes


def first_of_stream(layers: Sequence[int], streams: Streams = ()) -> dict[int, int]:
    """By routed layer: the first one with the same route, in general itself.

    Raises:
        ConfigError: a layer of a stream is routed and a later one of the same stream is not.
    """
    first: dict[int, int] = {}
    by_stream: dict[int, int] = {}
    for layer in range(max(len(streams), max(layers, default=-1) + 1)):
        stream = streams[layer] if streams else None
        if stream is not None and stream in by_stream and layer not in layers:
            raise ConfigError(
                f"routed_layers has layer {by_stream[stream]} but not layer {layer}: both are "
                "results of residual blocks of one stage and share one route, which the identity "
                f"path carries on; add {layer}, or leave {by_stream[stream]} out",
                routed_layers=list(layers),
            )
        if layer in layers:
            first[layer] = layer if stream is None else by_stream.setdefault(stream, layer)
    return first


def keep_by_layer(config: RoutingConfig, layers: int, streams: Streams = ()) -> dict[int, float]:
    """The keep fraction of every routed one of ``layers``; of a stream, that of its last layer.

    Raises:
        ConfigError: a list of keeps that does not fit, or names several for one stream.
    """
    routed = config.layers(layers)
    keeps = dict(zip(routed, config.keep_per_layer(len(routed)), strict=True))
    first = first_of_stream(routed, streams)
    last = {first[layer]: layer for layer in routed}
    for layer in routed:
        shared = keeps[last[first[layer]]]
        if not isinstance(config.keep, float) and keeps[layer] != shared:
            raise ConfigError(
                f"keep is {keeps[layer]:g} for layer {layer} and {shared:g} for layer "
                f"{last[first[layer]]}: both are results of residual blocks of one stage and share "
                "one route; give both the same",
                keep=list(config.keep),
            )
    return {layer: keeps[last[first[layer]]] for layer in routed}


def placeholder_routes(
    config: RoutingConfig, units: Sequence[int], tasks: int
) -> list[Tensor | None]:
    """Every unit for every task where a layer is routed: what chosen or stored routes replace."""
    layers = config.layers(len(units))
    return [
        torch.ones(tasks, count, dtype=torch.bool) if layer in layers else None
        for layer, count in enumerate(units)
    ]


def check_routes(
    routes: Sequence[Tensor | None],
    config: RoutingConfig,
    units: Sequence[int],
    tasks: int,
    streams: Streams = (),
) -> None:
    """Refuse routes that do not belong to layers of these ``units`` routed as ``config`` says.

    Raises:
        ConfigError: names the layer, what it has and what it needs.
    """
    if len(routes) != len(units):
        raise ConfigError(f"routes for {len(routes)} layers; the backbone has {len(units)}")
    layers = config.layers(len(units))
    for layer, (mask, count) in enumerate(zip(routes, units, strict=True)):
        if (mask is not None) != (layer in layers):
            given, wanted = ("no routes", "") if mask is None else ("routes", " not")
            raise ConfigError(
                f"layer {layer} has {given}, but routed_layers {config.routed_layers!r} says that "
                f"it is{wanted} routed",
                layer=layer,
            )
        if mask is None:
            continue
        if mask.dtype != torch.bool or tuple(mask.shape) != (tasks, count):
            raise ConfigError(
                f"routes of layer {layer} are {mask.dtype} {list(mask.shape)}; they must be bool "
                f"[{tasks} tasks, {count} units]",
                layer=layer,
            )
        empty = (~mask.any(dim=1)).nonzero().flatten().tolist()
        if empty:
            raise ConfigError(
                f"routes of layer {layer} leave task {empty[0]} without units", layer=layer
            )
    for layer, one in first_of_stream(layers, streams).items():
        mask, shared = routes[layer], routes[one]
        if mask is not None and shared is not None and not torch.equal(mask, shared):
            raise ConfigError(
                f"routes of layers {one} and {layer} differ; both are results of residual blocks "
                "of one stage, which share one route",
                layer=layer,
            )


def kept_units(keep: float, units: int, multiple: int) -> int:
    """keep * units rounded to a ``multiple``; never none, and with keep 1 always all."""
    if keep >= 1.0:
        return units
    kept = int(keep * units / multiple + 0.5) * multiple
    return min(units, max(kept, multiple))


def group_index(groups: Sequence[str]) -> Tensor:
    """Each task's group as a number from 0, in order of first appearance: int64 [tasks]."""
    order = {group: position for position, group in enumerate(dict.fromkeys(groups))}
    return torch.tensor([order[group] for group in groups])


def _draw_layer(
    config: RoutingConfig, keep: float, units: int, tasks: int, generator: torch.Generator
) -> Tensor:
    if config.scheme == "partition":
        return _partition(keep, units, tasks, config.unit_multiple, generator)
    if keep <= 0.0:
        raise ConfigError(
            f"keep is {keep}; with scheme {config.scheme!r} every task needs keep > 0 "
            "(disjoint subnets are scheme 'partition' with keep 0)",
            keep=keep,
        )
    return _independent(kept_units(keep, units, config.unit_multiple), units, tasks, generator)


def _independent(kept: int, units: int, tasks: int, generator: torch.Generator) -> Tensor:
    """Every task draws ``kept`` units at random; units nobody drew then replace much-used ones.

    With fewer than ``units`` draws in all, the routes come out disjoint and the rest stays unused.
    """
    scores = torch.rand(tasks, units, generator=generator)
    routes = torch.zeros(tasks, units, dtype=torch.bool)
    routes.scatter_(1, scores.argsort(dim=1)[:, :kept], True)
    users = routes.sum(dim=0)
    order = torch.randperm(tasks, generator=generator).tolist()
    for turn, unit in enumerate((users == 0).nonzero().flatten().tolist()):
        task = order[turn % tasks]
        # The task's most shared unit: given up, it still has another user.
        shared = torch.where(routes[task], users, torch.zeros_like(users))
        given_up = int(shared.argmax())
        if users[given_up] < 2:
            # This task has nothing to spare; another may.
            task = int(((routes & (users >= 2)).sum(dim=1)).argmax())
            shared = torch.where(routes[task], users, torch.zeros_like(users))
            given_up = int(shared.argmax())
            if users[given_up] < 2:
                break
        routes[task, given_up] = False
        routes[task, unit] = True
        users[given_up] -= 1
        users[unit] += 1
    return routes


def _partition(
    keep: float, units: int, tasks: int, multiple: int, generator: torch.Generator
) -> Tensor:
    """round(keep * units) units common to all; the rest divided among the tasks, none left over.

    The rest is dealt in runs of ``multiple`` units where every task can have one, else unit by
    unit, so that two tasks' own shares differ by one run or one unit at most.
    """
    common = 0 if keep <= 0.0 else kept_units(keep, units, multiple)
    rest = units - common
    if common == 0 and rest < tasks:
        raise ConfigError(
            f"scheme 'partition' with keep 0 needs at least one unit per task: a layer has {units} "
            f"units for {tasks} tasks; raise keep or width, or route later layers (routed_layers)",
            units=units,
            tasks=tasks,
        )
    order = torch.randperm(units, generator=generator)
    routes = torch.zeros(tasks, units, dtype=torch.bool)
    routes[:, order[:common]] = True
    # In random order, so that it is not the same tasks of every layer that get one run more.
    turns = torch.randperm(tasks, generator=generator)
    run = multiple if rest >= tasks * multiple else 1
    owners = turns[torch.arange(rest) // run % tasks]
    routes[owners, order[common:]] = True
    return routes
