"""Tails: what a task runs alone once it has parted from all others, and tails alike side by side.

The tails of one model have the same shapes, with other weights. Small convolutions are short of
work: run one by one, each waits for its weights and for the second core to wake. The same layers of
several tails are therefore one grouped convolution (a group per task) on their inputs side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from model.plan import Cut, Node

GROUP_SIZE = 4
"""Tails in one grouped convolution: large enough for most of the gain, and small enough that the
workers have several groups each."""


@dataclass(frozen=True, eq=False)
class Tail:
    """One task's own convolutions, from the first that no other task shares to the last."""

    task: int
    cuts: tuple[Cut, ...]

    @property
    def shape(self) -> tuple[object, ...]:
        """Equal for tails whose layers can be computed side by side."""
        first = self.cuts[0].in_units
        inputs = None if first is None else len(first)
        return (inputs, *((cut.layer, cut.outputs) for cut in self.cuts))


@dataclass(frozen=True, eq=False)
class TailGroup:
    """Tails of equal shape."""

    tails: tuple[Tail, ...]

    @property
    def tasks(self) -> tuple[int, ...]:
        return tuple(tail.task for tail in self.tails)

    def layers(self) -> Iterator[tuple[Cut, ...]]:
        """Layer by layer: the cut of every tail."""
        return zip(*(tail.cuts for tail in self.tails), strict=True)

    def activation_values(self) -> int:
        """Values that the group's largest layer writes for one image."""
        cuts = self.tails[0].cuts
        largest = max(cut.outputs * cut.out_size[0] * cut.out_size[1] for cut in cuts)
        return largest * len(self.tails)


def group_tails(tails: Iterable[Tail], group_size: int = GROUP_SIZE) -> list[TailGroup]:
    """Tails of equal shape in groups of ``group_size``.

    A tail without enough others of its shape is in no group.
    """
    alike: dict[tuple[object, ...], list[Tail]] = {}
    for tail in tails:
        alike.setdefault(tail.shape, []).append(tail)
    return [
        TailGroup(tuple(members[start : start + group_size]))
        for members in alike.values()
        for start in range(0, len(members) - group_size + 1, group_size)
    ]


def all_tails(roots: Sequence[Node]) -> Iterator[Tail]:
    """The tail of every task that parts from the others at all."""
    for root in roots:
        yield from _tails(root)


def alone(roots: Sequence[Node], task: int) -> list[Cut]:
    """A task's convolutions from first to last, each cut to its own units."""
    cuts: list[Cut] = []
    nodes = roots
    while nodes:
        [fork] = [fork for node in nodes for fork in node.forks if task in fork.tasks]
        cuts.append(fork.alone)
        nodes = fork.nodes
    return cuts


def is_tail(node: Node) -> bool:
    """Whether one task has ``node`` and everything behind it to itself."""
    return len(node.tasks) == 1


def _tails(node: Node) -> Iterator[Tail]:
    if is_tail(node):
        yield Tail(node.tasks[0], tuple(below.forks[0].alone for below in node.walk()))
        return
    for fork in node.forks:
        for below in fork.nodes:
            yield from _tails(below)
