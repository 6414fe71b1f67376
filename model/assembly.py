"""A network taken apart into what tasks share and what each has, and put together again.

What adding, removing and merging tasks have in common: the shared tensors stay as they are, and
each task keeps its own, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.errors import ConfigError
from model.network import RoutedNetwork
from model.tasks import Task, TaskSet

_STATISTICS = ("running_mean", "running_var", "batches_seen")
_LOGITS = ("heads.weight", "heads.bias")


@dataclass(frozen=True, eq=False)
class TaskPart:
    """One task with everything in the network that is its own."""

    task: Task
    generation: int
    tensors: Mapping[str, Tensor]
    """By name in the state: the task's row of it; for logits the rows of its outputs."""

    def with_task(self, task: Task) -> TaskPart:
        """The same weights under another description with as many outputs."""
        return replace(self, task=task)


def task_parts(network: RoutedNetwork) -> list[TaskPart]:
    """What each task has of its own; tensors are copies."""
    state, heads = network.state_dict(), network.heads
    parts = []
    for index, task in enumerate(network.tasks):
        logits = slice(heads.starts[index], heads.starts[index] + heads.outputs[index])
        tensors = {
            name: state[name][logits if name in _LOGITS else index].clone()
            for name in own_names(network)
        }
        parts.append(TaskPart(task, network.config.generation_of[index], tensors))
    return parts


def shared_state(network: RoutedNetwork) -> dict[str, Tensor]:
    """Every tensor that belongs to no single task."""
    own = set(own_names(network))
    return {name: tensor for name, tensor in network.state_dict().items() if name not in own}


def assemble(trunk: RoutedNetwork, parts: Sequence[TaskPart]) -> RoutedNetwork:
    """The network with the shared tensors of ``trunk`` and the tasks ``parts``, in that order.

    Args:
        parts: by generation, the earliest first; generations without a task are closed up.

    Raises:
        ConfigError: no task, or a name twice.
    """
    TaskSet(part.task for part in parts)
    numbers = [part.generation for part in parts]
    if numbers != sorted(numbers):
        raise ConfigError(f"tasks out of the order of their generations: {numbers}")
    generations = tuple(numbers.count(number) for number in dict.fromkeys(numbers))
    config = trunk.config.replace(
        tasks=[part.task.model_dump() for part in parts],
        generations=generations if len(generations) > 1 else (),
    )
    network = RoutedNetwork(config)
    own = {
        name: (torch.cat if name in _LOGITS else torch.stack)(
            [part.tensors[name] for part in parts]
        )
        for name in own_names(trunk)
    }
    network.load_state_dict(shared_state(trunk) | own)
    return network.eval()


def own_names(network: RoutedNetwork) -> Iterator[str]:
    """Names of the state's tensors with a row for each task, or for each of its outputs.

    Where statistics are kept per task those of a single task are one row too, so their place is
    what counts: behind the first routed layer, or everywhere with norm "batch_per_domain".
    """
    per_task = network.config.backbone.norm == "batch_per_task"
    behind_route = False
    for index, layer in enumerate(network.layers):
        prefix = f"layers.{index}"
        own: tuple[str, ...] = _STATISTICS if per_task and behind_route else ()
        if layer.shape.own_norm:
            own = (*_STATISTICS, "weight", "bias")
        if layer.norm is not None:
            yield from (f"{prefix}.norm.{name}" for name in own)
        if layer.shortcut is not None and layer.shortcut.norm is not None:
            yield from (f"{prefix}.shortcut.norm.{name}" for name in own)
        if layer.modulation is not None:
            yield from (f"{prefix}.modulation.{name}"
                        for name, _ in layer.modulation.named_parameters())  # fmt: skip
        if layer.adapter is not None:
            yield from (f"{prefix}.adapter.{name}" for name in layer.adapter.state_dict())
        if layer.route is not None:
            yield f"{prefix}.route.mask"
            behind_route = True
    if network.heads.embed_weight is not None:
        yield from ("heads.embed_weight", "heads.embed_bias")
    yield from _LOGITS
