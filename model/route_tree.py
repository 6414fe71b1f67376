"""The tree of distinct computations behind a set of tasks.

Two tasks share a layer's computation when everything before it is equal: the same routes in the
earlier layers, the same batch-norm statistics, no modulation. They part only *after* a mask, so the
first routed convolution is still computed once, unless it is modulated. Training walks this tree
with autograd, serving walks it with folded, cut weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LayerRoutes:
    """What the tree needs to know about one convolution."""

    units: int
    mask: Tensor | None  # bool [tasks, units], None where not routed
    per_task: bool  # statistics or modulation: tasks part before this convolution


@dataclass(frozen=True, eq=False)
class Branch:
    """One convolution, computed once for all ``tasks``, on the units that any of them needs."""

    layer: int
    tasks: tuple[int, ...]
    in_units: Tensor | None  # int64, None for all: which units of the previous layer it reads
    out_units: Tensor | None  # int64, None for all: which of its own units it computes
    row: int  # the task whose statistics and modulation these are; 0 where all tasks share them
    forks: tuple[Fork, ...]  # where its tasks part, by route

    def walk(self) -> Iterable[Branch]:
        """This branch and all below it, parents first."""
        yield self
        for fork in self.forks:
            for branch in fork.branches:
                yield from branch.walk()


@dataclass(frozen=True, eq=False)
class Fork:
    """The tasks of a branch that use the same of its output units."""

    tasks: tuple[int, ...]
    units: Tensor | None  # int64, None for all: the layer's units that these tasks use
    select: Tensor | None  # int64: positions of ``units`` in the branch's output, None for all
    branches: tuple[Branch, ...]  # the next layer; empty behind the last, where the heads follow

    def chain(self) -> tuple[Branch, ...]:
        """The branches below it where its tasks share all of them; empty where they part again, or
        right behind it."""
        found: list[Branch] = []
        fork: Fork = self
        while fork.branches:
            if len(fork.branches) > 1 or len(fork.branches[0].forks) > 1:
                return ()
            found.append(fork.branches[0])
            fork = fork.branches[0].forks[0]
        return tuple(found)


def alike(forks: Iterable[Fork]) -> list[tuple[Fork, ...]]:
    """Forks with chains of equal sizes together, every other by itself."""
    found: dict[object, list[Fork]] = {}
    for fork in forks:
        sizes = tuple(
            (branch.layer, _count(branch.in_units), _count(branch.out_units))
            for branch in fork.chain()
        )
        found.setdefault(sizes or fork, []).append(fork)
    return [tuple(members) for members in found.values()]


def _count(units: Tensor | None) -> int | None:
    return None if units is None else len(units)


def unit_table(units: Sequence[Tensor | None], count: int, device: torch.device) -> Tensor:
    """Equally many units of each, int64 [len(units), n]; None stands for all ``count``."""
    every = torch.arange(count, device=device)
    return torch.stack([every if one is None else one for one in units])


def route_tree(
    layers: Sequence[LayerRoutes],
    tasks: Sequence[int],
    generations: Sequence[int] = (),
    domains: Sequence[int] = (),
) -> tuple[Branch, ...]:
    """The root branches (one, unless the first layer or its input differs by task) for ``tasks``.

    Args:
        generations: by task, its generation (:class:`model.config.ModelConfig`); empty: one for
            all. Tasks of different ones share no routed layer, whose size their routes would
            change, and with it, in the last bits, what each of them computes.
        domains: by task, that of its images, which are normalised otherwise than others'; empty:
            one for all.
    """
    distinct = tuple(dict.fromkeys(tasks))
    if not domains:
        return _branches(layers, 0, distinct, None, generations)
    apart = dict.fromkeys(domains[task] for task in distinct)
    return tuple(
        branch
        for domain in apart
        for branch in _branches(
            layers, 0, tuple(t for t in distinct if domains[t] == domain), None, generations
        )
    )


def _branches(
    layers: Sequence[LayerRoutes],
    layer: int,
    tasks: tuple[int, ...],
    in_units: Tensor | None,
    generations: Sequence[int],
) -> tuple[Branch, ...]:
    if layer == len(layers):
        return ()
    parted: dict[tuple[int, int], list[int]] = {}
    for task in tasks:
        row = task if layers[layer].per_task else 0
        apart = bool(generations) and layers[layer].mask is not None
        parted.setdefault((row, generations[task] if apart else 0), []).append(task)
    return tuple(
        _branch(layers, layer, tuple(members), in_units, row, generations)
        for (row, _), members in parted.items()
    )


def _branch(
    layers: Sequence[LayerRoutes],
    layer: int,
    tasks: tuple[int, ...],
    in_units: Tensor | None,
    row: int,
    generations: Sequence[int],
) -> Branch:
    mask = layers[layer].mask
    if mask is None:
        fork = Fork(tasks, None, None, _branches(layers, layer + 1, tasks, None, generations))
        return Branch(layer, tasks, in_units, None, row, (fork,))
    by_route: dict[bytes, list[int]] = {}
    for task in tasks:
        by_route.setdefault(mask[task].numpy(force=True).tobytes(), []).append(task)
    union = mask[list(tasks)].any(dim=0)
    position = union.cumsum(0) - 1  # of a unit within the branch's output
    forks = []
    for members in by_route.values():
        route = mask[members[0]]
        units = None if bool(route.all()) else route.nonzero().flatten()
        select = None if len(by_route) == 1 else position[route]
        below = _branches(layers, layer + 1, tuple(members), units, generations)
        forks.append(Fork(tuple(members), units, select, below))
    out_units = None if bool(union.all()) else union.nonzero().flatten()
    return Branch(layer, tasks, in_units, out_units, row, tuple(forks))


def moved(branches: Sequence[Branch], device: torch.device) -> tuple[Branch, ...]:
    """The same branches with their tensors on ``device``, where weights are selected by them."""
    if device.type == "cpu":
        return tuple(branches)

    def move(units: Tensor | None) -> Tensor | None:
        return None if units is None else units.to(device)

    return tuple(
        replace(
            branch,
            in_units=move(branch.in_units),
            out_units=move(branch.out_units),
            forks=tuple(
                replace(
                    fork,
                    units=move(fork.units),
                    select=move(fork.select),
                    branches=moved(fork.branches, device),
                )
                for fork in branch.forks
            ),
        )
        for branch in branches
    )


def layer_routes(units: int, mask: Tensor | None, per_task: bool) -> LayerRoutes:
    """LayerRoutes with the mask on the CPU, where trees are built."""
    return LayerRoutes(units, None if mask is None else mask.to(torch.device("cpu")), per_task)
