"""The plan: which convolutions a set of tasks needs, each distinct one once, and what they cost.

    python -m model.plan REPOSITORY/NAME [--version V] [--tasks a,b,group:c]

prints the tree with the multiply-adds and weight bytes of every branch. The same plan runs in
:mod:`model.subnet_forward`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.tree import Tree
from torch import Tensor

from model.conv_layer import LayerShape, RoutedConv
from model.errors import TaskRouteError
from model.location import split_model
from model.network import RoutedNetwork
from model.repository import Repository
from model.route_tree import Branch, Fork


@dataclass(frozen=True, eq=False)
class ShortcutCut:
    """What a residual block's last convolution adds, cut to the same output units."""

    in_units: Tensor | None  # int64 on the CPU, None for all: of the block's input
    select: Tensor | None  # int64: of an identity, the positions it takes of them, None for all
    macs: int
    weights: int

    def folded(
        self, layer: RoutedConv, row: int, out_units: Tensor | None, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor] | None:
        """Weight [outputs, inputs, 1, 1] and bias [outputs]; None for an identity."""
        folded = None if layer.shortcut is None else layer.shortcut.folded(row, out_units)
        if folded is None:
            return None
        weight, bias = folded
        if self.in_units is not None:
            weight = weight.index_select(1, self.in_units.to(weight.device))
        return weight.to(dtype), bias.to(dtype)


@dataclass(frozen=True, eq=False)
class Cut:
    """A convolution cut to some input and output units: what weights to make and what they cost."""

    layer: int
    in_units: Tensor | None  # int64 on the CPU, None for all
    out_units: Tensor | None
    row: int  # the task whose statistics and modulation are folded in; 0 where all share them
    size: tuple[int, int]  # height and width of its input
    out_size: tuple[int, int]  # and of its output, before the pool
    inputs: int
    outputs: int
    macs: int  # multiply-adds for one image, those of a shortcut included
    weights: int  # parameters, bias included, likewise
    key: bytes  # equal for equal units of the same layer
    shortcut: ShortcutCut | None = None

    def folded(self, layer: RoutedConv, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Weight [outputs, inputs, k, k] and bias [outputs] of ``layer``, with all behind it but a
        shortcut."""
        weight, bias = layer.folded(self.row, self.out_units)
        if self.in_units is not None:
            weight = weight.index_select(1, self.in_units.to(weight.device))
        return weight.to(dtype), bias.to(dtype)


@dataclass(frozen=True, eq=False)
class Node:
    """A branch of the plan: one convolution, shared by ``tasks`` up to their own routes."""

    tasks: tuple[int, ...]
    cut: Cut  # on the union of its tasks' units
    forks: tuple[NodeFork, ...]

    def active(self, wanted: Set[int]) -> list[NodeFork]:
        """The forks that lead to any wanted task."""
        return [fork for fork in self.forks if not fork.tasks.isdisjoint(wanted)]

    def walk(self) -> Iterator[Node]:
        yield self
        for fork in self.forks:
            for node in fork.nodes:
                yield from node.walk()


@dataclass(frozen=True, eq=False)
class NodeFork:
    """The tasks of a node with the same route through it."""

    tasks: frozenset[int]
    alone: Cut  # the node's convolution on just this route
    units: Tensor | None  # int64: the layer's units on this route, None for all
    select: Tensor | None  # int64: their positions in the node's output, None for all of it
    nodes: tuple[Node, ...]  # the next layer; empty behind the last one


@dataclass(frozen=True)
class Cost:
    """For one image."""

    macs: int  # multiply-adds of the convolutions
    weights: int  # parameters read

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.macs + other.macs, self.weights + other.weights)


def make_plan(network: RoutedNetwork, tasks: Sequence[int]) -> tuple[Node, ...]:
    """The plan's roots for ``tasks``."""
    sizes = _input_sizes(network)
    return tuple(_node(network, branch, sizes, None) for branch in network.tree(tasks))


def shares_conv(
    node: Node, forks: Sequence[NodeFork], fork_images: Sequence[int], images: int
) -> bool:
    """Whether one convolution on all units is less work than one per route of ``forks``.

    ``images``: distinct ones that the node is asked about; ``fork_images``: by fork.
    """
    work = zip(forks, fork_images, strict=True)
    return sum(fork.alone.outputs * asked for fork, asked in work) >= node.cut.outputs * images


def cost(nodes: Sequence[Node], tasks: Sequence[int]) -> Cost:
    """Cost of asking ``tasks`` about one image."""
    wanted, total = set(tasks), Cost(0, 0)
    for node in nodes:
        forks = node.active(wanted)
        cuts = distinct_cuts(node, forks)
        if forks:
            total = sum((Cost(cut.macs, cut.weights) for cut in cuts), total)
        for fork in forks:
            total += cost(fork.nodes, tasks)
    return total


def masked_cost(network: RoutedNetwork) -> Cost:
    """Cost of one full pass through the network: what the paper's way pays for every task."""
    total = Cost(0, 0)
    for layer, size in zip(network.layers, _input_sizes(network), strict=True):
        total += layer_cost(layer.shape, size)
    return total


def layer_cost(shape: LayerShape, size: tuple[int, int]) -> Cost:
    """Of a whole layer, shortcut included, for an input of ``size``."""
    main = Cost(_macs(shape, shape.in_units, shape.units, size), _weights(shape))
    if shape.shortcut is None or not shape.shortcut.projected:
        return main
    height, width = shape.conv_size(size)
    weights = shape.shortcut.in_units * shape.units
    return main + Cost(weights * height * width, weights)


def used_features(roots: Sequence[Node]) -> dict[int, Tensor | None]:
    """By task: the last layer's units on its route (int64), None for all."""
    return {
        task: fork.units
        for root in roots
        for node in root.walk()
        for fork in node.forks
        if not fork.nodes
        for task in fork.tasks
    }


def distinct_cuts(node: Node, forks: Sequence[NodeFork]) -> list[Cut]:
    """What is computed where all ``forks`` are asked about one image."""
    if shares_conv(node, forks, [1] * len(forks), images=1):
        return [node.cut]
    return [fork.alone for fork in forks]


def _node(
    network: RoutedNetwork,
    branch: Branch,
    sizes: Sequence[tuple[int, int]],
    block_units: Tensor | None,
) -> Node:
    """``block_units``: of the input of the residual block that the branch is in, None for all."""
    if network.layers[branch.layer].shape.begins_block:
        block_units = branch.in_units
    cut = _cut(network, branch, branch.out_units, sizes, block_units)
    forks = tuple(_fork(network, branch, fork, cut, sizes, block_units) for fork in branch.forks)
    return Node(branch.tasks, cut, forks)


def _fork(
    network: RoutedNetwork,
    branch: Branch,
    fork: Fork,
    shared: Cut,
    sizes: Sequence[tuple[int, int]],
    block_units: Tensor | None,
) -> NodeFork:
    alone = shared if fork.select is None else _cut(network, branch, fork.units, sizes, block_units)
    nodes = tuple(_node(network, below, sizes, block_units) for below in fork.branches)
    return NodeFork(frozenset(fork.tasks), alone, fork.units, fork.select, nodes)


def _cut(
    network: RoutedNetwork,
    branch: Branch,
    units: Tensor | None,
    sizes: Sequence[tuple[int, int]],
    block_units: Tensor | None,
) -> Cut:
    layer, size = network.layers[branch.layer], sizes[branch.layer]
    shape, out_size = layer.shape, layer.shape.conv_size(size)
    inputs = shape.in_units if branch.in_units is None else len(branch.in_units)
    outputs = shape.units if units is None else len(units)
    around = _shortcut(layer, block_units, units, outputs, out_size)
    digest = hashlib.blake2b(digest_size=16)
    parts = [branch.in_units, units, torch.tensor([branch.layer, branch.row])]
    for part in parts if around is None else [*parts, around.in_units, around.select]:
        digest.update(b"all" if part is None else part.numpy().tobytes())
        digest.update(b"|")
    return Cut(
        branch.layer, branch.in_units, units, branch.row, size, out_size, inputs, outputs,
        macs=_macs(shape, inputs, outputs, size) + (around.macs if around else 0),
        weights=(shape.kernel**2 * inputs + 1) * outputs + (around.weights if around else 0),
        key=digest.digest(),
        shortcut=around,
    )  # fmt: skip


def _shortcut(
    layer: RoutedConv,
    units: Tensor | None,
    out_units: Tensor | None,
    outputs: int,
    out_size: tuple[int, int],
) -> ShortcutCut | None:
    """``units``: of the block's input."""
    if layer.shortcut is None:
        return None
    shape = layer.shortcut.shape
    if not shape.projected:
        chosen = layer.shortcut.chosen(units, out_units)
        return ShortcutCut(units, None if chosen is None else chosen.cpu(), 0, 0)
    weights = (shape.in_units if units is None else len(units)) * outputs
    return ShortcutCut(units, None, weights * out_size[0] * out_size[1], weights)


def _macs(shape: LayerShape, inputs: int, outputs: int, size: tuple[int, int]) -> int:
    height, width = shape.conv_size(size)
    return shape.kernel**2 * inputs * outputs * height * width


def _weights(shape: LayerShape) -> int:
    return (shape.kernel**2 * shape.in_units + 1) * shape.units


def _input_sizes(network: RoutedNetwork) -> list[tuple[int, int]]:
    size = network.config.preprocess.height, network.config.preprocess.width
    sizes = []
    for layer in network.layers:
        sizes.append(size)
        size = layer.shape.output_size(size)
    return sizes


def render(nodes: Sequence[Node], network: RoutedNetwork, tasks: Sequence[int]) -> Tree:
    """The plan as text: shared branches one by one, each task's own tail on one line."""
    computing = dict.fromkeys(network.computed_by[task] for task in tasks)
    total, full = cost(nodes, list(computing)), masked_cost(network)
    tree = Tree(
        f"{len(tasks)} tasks of one image: {_amount(total.macs)} multiply-adds, "
        f"{_amount(4 * total.weights)}B of weights; "
        f"{total.macs / full.macs:.2f} passes of the full network (masked: {len(tasks)})"
    )
    for node in nodes:
        _render_node(tree, node, network, set(computing))
    for task in tasks:
        if (same := network.computed_by[task]) != task:
            tree.add(
                f"{network.tasks[task].name}: a head on the features of {_name(network, same)}"
            )
    return tree


def _name(network: RoutedNetwork, task: int) -> str:
    return network.tasks[task].name


def _render_node(tree: Tree, node: Node, network: RoutedNetwork, wanted: set[int]) -> None:
    tasks = [_name(network, task) for task in node.tasks if task in wanted]
    if not tasks:
        return
    if len(tasks) == 1:
        chain = cost([node], [task for task in node.tasks if task in wanted])
        tree.add(
            f"{tasks[0]}: from conv {node.cut.layer}, {_amount(chain.macs)} multiply-adds, "
            f"{_amount(4 * chain.weights)}B"
        )
        return
    forks = node.active(wanted)
    cuts = distinct_cuts(node, forks)
    height, width = node.cut.size
    shared = tree.add(
        f"conv {node.cut.layer} at {height} x {width}, {sum(cut.outputs for cut in cuts)} units, "
        f"{len(tasks)} tasks on {len(forks)} routes, "
        f"{_amount(sum(cut.macs for cut in cuts))} multiply-adds, "
        f"{_amount(4 * sum(cut.weights for cut in cuts))}B"
    )
    for fork in forks:
        for below in fork.nodes:
            _render_node(shared, below, network, wanted)


def _amount(number: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number} "


def _main(
    model: Annotated[str, typer.Argument(help="REPOSITORY/NAME, a path or a URL")],
    version: Annotated[int | None, typer.Option(help="default: the latest")] = None,
    tasks: Annotated[str, typer.Option(help="names, group:NAME or *, separated by commas")] = "*",
) -> None:
    """Print which convolutions a set of tasks needs and what they cost."""
    console = Console()
    try:
        repository, name = split_model(model)
        network = Repository(repository).read(name, version).network()
        chosen = network.tasks.select([name.strip() for name in tasks.split(",") if name.strip()])
    except TaskRouteError as error:
        Console(stderr=True).print(f"error: {error}", highlight=False)
        raise typer.Exit(1) from None
    console.print(render(make_plan(network, range(len(network.tasks))), network, chosen))


if __name__ == "__main__":
    typer.run(_main)
