"""What routes look like: how much tasks share, who uses which unit, where the work is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.network import RoutedNetwork
from model.plan import distinct_cuts, layer_cost, make_plan


@dataclass(frozen=True, eq=False)
class LayerView:
    """One convolution, for the tasks that were asked about."""

    layer: int
    units: int
    size: tuple[int, int]  # height and width of its input
    users: Tensor | None  # int64 [units]: tasks on each unit; None where it is not routed
    overlap: float | None  # mean over pairs of tasks: shared units / units of either
    by_chance: float | None  # the same for random routes with as many units
    convolutions: int  # distinct ones for one image
    macs: int  # multiply-adds for one image
    masked_macs: int  # the paper's way: the whole layer once per task


@dataclass(frozen=True, eq=False)
class RouteView:
    """A model's routes and costs for some tasks."""

    names: tuple[str, ...]
    layers: tuple[LayerView, ...]
    overlap: Tensor  # float64 [tasks, tasks]: mean over routed layers; ones where none is routed

    def closest(self, count: int) -> list[tuple[float, str, str]]:
        """Pairs of tasks with the most in common, the closest first."""
        first, second = torch.triu_indices(len(self.names), len(self.names), offset=1)
        values = self.overlap[first, second]
        order = values.argsort(descending=True, stable=True)[:count]
        pairs = zip(
            values[order].tolist(), first[order].tolist(), second[order].tolist(), strict=True
        )
        return [(value, self.names[one], self.names[other]) for value, one, other in pairs]


def view_routes(network: RoutedNetwork, tasks: Sequence[int]) -> RouteView:
    """Overlap, users and cost of ``tasks`` asked about one image."""
    layers = []
    overlaps = []
    convolutions = _convolutions(network, tasks)
    for index, (layer, mask) in enumerate(zip(network.layers, network.routes, strict=True)):
        chosen = None if mask is None else mask[list(tasks)].cpu()
        pairs = None if chosen is None else route_overlap(chosen)
        if pairs is not None:
            overlaps.append(pairs)
        count, macs, size = convolutions[index]
        whole = layer_cost(layer.shape, size).macs
        layers.append(
            LayerView(
                index, layer.shape.units, size,
                users=None if chosen is None else chosen.sum(dim=0),
                overlap=None if pairs is None else _mean_of_pairs(pairs),
                by_chance=None if chosen is None else _by_chance(chosen),
                convolutions=count, macs=macs, masked_macs=whole * len(tasks),
            )
        )  # fmt: skip
    everywhere = torch.ones(len(tasks), len(tasks), dtype=torch.float64)
    overlap = torch.stack(overlaps).mean(dim=0) if overlaps else everywhere
    names = tuple(network.tasks[task].name for task in tasks)
    return RouteView(names, tuple(layers), overlap)


def route_overlap(routes: Tensor) -> Tensor:
    """bool [tasks, units] -> float64 [tasks, tasks]: units in common over units of either."""
    used = routes.double()
    both = used @ used.T
    sizes = used.sum(dim=1)
    return both / (sizes[:, None] + sizes[None, :] - both)


def _mean_of_pairs(overlap: Tensor) -> float | None:
    """Over pairs of different tasks; None for a single task."""
    count = len(overlap)
    if count < 2:
        return None
    return float((overlap.sum() - overlap.diagonal().sum()) / (count * (count - 1)))


def _by_chance(routes: Tensor) -> float | None:
    """What independent routes of these sizes are expected to share, roughly: the ratio of means."""
    if len(routes) < 2:
        return None
    keep = routes.double().mean(dim=1)
    both = keep[:, None] * keep[None, :]
    return _mean_of_pairs(both / (keep[:, None] + keep[None, :] - both))


def _convolutions(
    network: RoutedNetwork, tasks: Sequence[int]
) -> dict[int, tuple[int, int, tuple[int, int]]]:
    """By layer: distinct convolutions, their multiply-adds for one image, size of the input."""
    found: dict[int, tuple[int, int, tuple[int, int]]] = {}
    for root in make_plan(network, tasks):
        for node in root.walk():
            cuts = distinct_cuts(node, node.forks)
            count, macs, _ = found.get(node.cut.layer, (0, 0, node.cut.size))
            macs += sum(cut.macs for cut in cuts)
            found[node.cut.layer] = (count + len(cuts), macs, node.cut.size)
    return found
