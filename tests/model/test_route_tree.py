from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.route_tree import (
    Branch,
    Fork,
    LayerRoutes,
    alike,
    layer_routes,
    moved,
    route_tree,
)

UNITS = 6


@st.composite
def stacks(draw: st.DrawFn) -> tuple[list[LayerRoutes], list[int]]:
    """Layers with few distinct routes, so that tasks often share some, and tasks to ask for."""
    count = draw(st.integers(1, 5))
    row = st.lists(st.booleans(), min_size=UNITS, max_size=UNITS).filter(any)
    layers, parted = [], False
    for _ in range(draw(st.integers(1, 4))):
        per_task = parted and draw(st.booleans())
        mask = None
        if draw(st.booleans()):
            rows = draw(st.lists(row, min_size=1, max_size=3))
            chosen = draw(st.lists(st.sampled_from(rows), min_size=count, max_size=count))
            mask, parted = torch.tensor(chosen), True
        layers.append(LayerRoutes(UNITS, mask, per_task))
    return layers, draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=6))


def leaves(branches: Sequence[Branch]) -> Iterator[Fork]:
    for branch in branches:
        for node in branch.walk():
            yield from (fork for fork in node.forks if not fork.branches)


def history(layers: Sequence[LayerRoutes], layer: int, task: int) -> tuple[object, ...]:
    """All that decides what the convolution ``layer`` computes for ``task``, up to its mask."""
    masks = [None if routes.mask is None else tuple(routes.mask[task].tolist())
             for routes in layers[:layer]]  # fmt: skip
    rows = [task if routes.per_task else 0 for routes in layers[: layer + 1]]
    return tuple(masks), tuple(rows)


def used(layers: Sequence[LayerRoutes], layer: int, task: int) -> list[int]:
    mask = layers[layer].mask
    return list(range(UNITS)) if mask is None else mask[task].nonzero().flatten().tolist()


def listed(units: Tensor | None) -> list[int]:
    return list(range(UNITS)) if units is None else units.tolist()


FAST = settings(max_examples=70, deadline=None)


@FAST
@given(stacks())
def test_every_task_ends_in_one_leaf_with_its_own_units(
    stack: tuple[list[LayerRoutes], list[int]],
) -> None:
    layers, tasks = stack
    ends = [(task, listed(fork.units)) for fork in leaves(route_tree(layers, tasks))
            for task in fork.tasks]  # fmt: skip
    assert sorted(ends) == sorted(
        (task, used(layers, len(layers) - 1, task)) for task in set(tasks)
    )


@FAST
@given(stacks())
def test_every_distinct_computation_is_one_branch(
    stack: tuple[list[LayerRoutes], list[int]],
) -> None:
    layers, tasks = stack
    branches = [node for root in route_tree(layers, tasks) for node in root.walk()]
    for layer in range(len(layers)):
        found = {frozenset(branch.tasks) for branch in branches if branch.layer == layer}
        together: dict[object, set[int]] = {}
        for task in tasks:
            together.setdefault(history(layers, layer, task), set()).add(task)
        assert found == {frozenset(members) for members in together.values()}
        assert sum(branch.layer == layer for branch in branches) == len(together)


@FAST
@given(stacks())
def test_units_fit_from_branch_to_fork_to_branch(
    stack: tuple[list[LayerRoutes], list[int]],
) -> None:
    layers, tasks = stack
    for root in route_tree(layers, tasks):
        assert root.in_units is None
        for branch in root.walk():
            task = branch.tasks[0]
            assert branch.row == (task if layers[branch.layer].per_task else 0)
            union = set().union(*(used(layers, branch.layer, task) for task in branch.tasks))
            computed = listed(branch.out_units)
            assert computed == sorted(union)
            assert sorted(task for fork in branch.forks for task in fork.tasks) == sorted(
                branch.tasks
            )
            for fork in branch.forks:
                selected = computed if fork.select is None else [computed[i] for i in fork.select]
                assert selected == listed(fork.units)
                assert all(used(layers, branch.layer, task) == selected for task in fork.tasks)
                for below in fork.branches:
                    assert below.layer == branch.layer + 1
                    assert listed(below.in_units) == selected


def test_no_tasks_need_no_branch() -> None:
    assert route_tree([LayerRoutes(UNITS, None, False)], []) == ()


def test_tasks_asked_twice_are_computed_once() -> None:
    (root,) = route_tree([LayerRoutes(UNITS, torch.eye(3, UNITS) > 0, False)], [2, 0, 2])
    assert root.tasks == (2, 0)
    assert [fork.tasks for fork in root.forks] == [(2,), (0,)]
    assert listed(root.out_units) == [0, 2]


def test_the_first_routed_layer_is_shared() -> None:
    eye = torch.eye(3, UNITS) > 0
    layers = [LayerRoutes(UNITS, None, False), LayerRoutes(UNITS, eye, False),
              LayerRoutes(UNITS, eye, False)]  # fmt: skip
    counts = [0, 0, 0]
    for root in route_tree(layers, range(3)):
        for branch in root.walk():
            counts[branch.layer] += 1
    assert counts == [1, 1, 3]


def test_hard_sharing_is_one_branch_a_layer() -> None:
    everything = torch.ones(4, UNITS, dtype=torch.bool)
    (root,) = route_tree([LayerRoutes(UNITS, everything, False)] * 3, range(4))
    assert [len(branch.tasks) for branch in root.walk()] == [4, 4, 4]
    assert all(branch.out_units is None and branch.in_units is None for branch in root.walk())


def test_trees_are_built_on_the_cpu_and_moved_whole() -> None:
    mask = torch.tensor([[True, True, False], [False, True, False]])
    layers = [layer_routes(3, mask.clone(), False) for _ in range(2)]
    assert all(layer.mask is not None and layer.mask.device.type == "cpu" for layer in layers)
    tree = route_tree(layers, [0, 1])
    assert moved(tree, torch.device("cpu")) == tree
    before = [node for root in tree for node in root.walk()]
    after = [node for root in moved(tree, torch.device("meta")) for node in root.walk()]
    assert [node.layer for node in after] == [node.layer for node in before] == [0, 1, 1]
    for old, new in zip(before, after, strict=True):
        pairs: list[tuple[Tensor | None, Tensor | None]] = [
            (old.in_units, new.in_units),
            (old.out_units, new.out_units),
        ]
        for one, other in zip(old.forks, new.forks, strict=True):
            pairs += [(one.units, other.units), (one.select, other.select)]
        for tensor, there in pairs:
            assert (tensor is None) == (there is None)
            if tensor is not None and there is not None:
                assert (there.device.type, there.shape) == ("meta", tensor.shape)


@FAST
@given(stacks())
def test_forks_are_alike_if_equally_large_chains_follow(
    given: tuple[list[LayerRoutes], list[int]],
) -> None:
    for root in route_tree(*given):
        for branch in root.walk():
            groups = alike(branch.forks)
            assert sorted(map(id, branch.forks)) == sorted(
                id(fork) for group in groups for fork in group
            )
            for group in groups:
                sizes = {
                    tuple(
                        (below.layer, len(listed(below.in_units)), len(listed(below.out_units)))
                        for below in fork.chain()
                    )
                    for fork in group
                }
                assert len(sizes) == 1
                assert len(group) == 1 or sizes != {()}


def test_a_chain_ends_at_the_heads_and_never_parts() -> None:
    routes = torch.tensor([[True] * 3 + [False] * 3, [False] * 3 + [True] * 3])
    layers = [LayerRoutes(UNITS, routes, False), LayerRoutes(UNITS, routes, True)]
    [root] = route_tree(layers, [0, 1])
    assert [[below.layer for below in fork.chain()] for fork in root.forks] == [[1], [1]]
    assert [len(group) for group in alike(root.forks)] == [2]
    [below] = root.forks[0].branches
    assert below.forks[0].chain() == ()

    late = [LayerRoutes(UNITS, None, False), *layers]
    [root] = route_tree(late, [0, 1])
    assert root.forks[0].chain() == ()  # its tasks part behind the next layer
