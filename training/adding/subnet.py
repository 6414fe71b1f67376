"""One new task behind the frozen prefix: its route, its statistics, its modulation, its head.

While it is trained the task has a network of its own, with copies of the shared weights: nothing
here holds another task's tensors, so nothing can move them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.assembly import TaskPart, assemble, task_parts
from model.batch_norm import BatchNorm
from model.network import RoutedNetwork
from model.routes import kept_units
from model.tasks import Task
from training.adding.features import Features
from training.adding.head import Examples, HeadWeights, fit_head
from training.adding.modulation import fit_modulation
from training.adding.settings import AddSettings
from training.adding.tail import Labelled, integers, tail
from training.evidence import stream_scores
from training.saliency import batch_scores

_BATCH = 128
Note = Callable[[str], None]


def train_part(
    parent: RoutedNetwork,
    task: Task,
    train: Labelled,
    val: Labelled,
    settings: AddSettings,
    note: Note,
) -> TaskPart:
    """The new task's tensors, trained; ``parent`` is only read."""
    part = _blank(parent, task)
    if settings.like:
        part = _like(parent, part, settings)
    elif settings.route == "random":
        part = _with_routes(part, _random(parent, settings))
    else:
        note("trains with all units, to choose its route")
        everything = _trained(parent, part, train, val, settings)
        part = _with_routes(part, _salient(parent, everything, train, settings))
    note("trains its head")
    part = _trained(parent, part, train, val, settings)
    own_norm = parent.config.backbone.norm == "batch_per_domain"
    has_modulation = parent.config.routing.modulation != "none"
    if not (has_modulation or own_norm) or not settings.own_statistics:
        return part
    note("trains its batch norm and adapters" if own_norm else "trains its modulation")
    network = alone(parent, part)
    fit_modulation(network, train, val, settings)
    (modulated,) = task_parts(network)
    return replace(part, tensors=modulated.tensors)


def alone(parent: RoutedNetwork, part: TaskPart) -> RoutedNetwork:
    """The network of this task only, with the parent's shared weights."""
    return assemble(parent, [replace(part, generation=0)])


@torch.inference_mode()
def logits(network: RoutedNetwork, features: Features, rows: NDArray[np.int64]) -> Tensor:
    """Logits [len(rows), outputs] of a network of one task."""
    found = [torch.empty(0, network.tasks[0].outputs)]
    for start in range(0, len(rows), _BATCH):
        pooled, used = tail(network, features.batch(rows[start : start + _BATCH]))
        found.append(network.heads.forward_features(pooled, 0, used))
    return torch.cat(found)


def _trained(
    parent: RoutedNetwork, part: TaskPart, train: Labelled, val: Labelled, settings: AddSettings
) -> TaskPart:
    """With its statistics measured, where they are its own, and its head fitted."""
    network = alone(parent, part)
    if settings.own_statistics:
        _measure_statistics(network, parent, train, settings)
    weights = fit_head(
        _examples(network, train), _examples(network, val), part.task.outputs,
        network.config.head.embedding, settings,
    )  # fmt: skip
    _set_head(network, weights)
    (trained,) = task_parts(network)
    return replace(part, tensors=trained.tensors)


def _blank(parent: RoutedNetwork, task: Task) -> TaskPart:
    """Every unit, untouched statistics and modulation, a head of zeros; of a generation of its
    own."""
    tensors: dict[str, Tensor] = {}
    for name, like in task_parts(parent)[0].tensors.items():
        if name in ("heads.weight", "heads.bias"):
            tensors[name] = torch.zeros(task.outputs, *like.shape[1:])
        elif name.endswith((".mask", ".running_var", "modulation.scale", "norm.weight")):
            tensors[name] = torch.ones_like(like)
        else:
            tensors[name] = torch.zeros_like(like)
    return TaskPart(task, parent.config.generation_of[-1] + 1, tensors)


def _like(parent: RoutedNetwork, part: TaskPart, settings: AddSettings) -> TaskPart:
    source = task_parts(parent)[parent.tasks.position(settings.like)]
    taken: tuple[str, ...] = (".mask",)
    if not settings.own_statistics:
        taken += ("mean", "var", "batches_seen", "modulation.scale", "modulation.shift")
        taken += ("norm.weight", "norm.bias", "adapter.weight")
    same = {name: one for name, one in source.tensors.items() if name.endswith(taken)}
    return replace(part, tensors={**part.tensors, **same})


def _with_routes(part: TaskPart, routes: dict[int, Tensor]) -> TaskPart:
    masks = {f"layers.{layer}.route.mask": mask for layer, mask in routes.items()}
    return replace(part, tensors={**part.tensors, **masks})


def _counts(parent: RoutedNetwork, settings: AddSettings) -> dict[int, int]:
    """By routed layer: how many units the new task gets."""
    multiple = parent.config.routing.unit_multiple
    return {
        layer: round(float(mask.sum(dim=1).float().mean()))
        if settings.keep is None
        else kept_units(settings.keep, mask.shape[1], multiple)
        for layer, mask in enumerate(parent.routes)
        if mask is not None
    }


def _random(parent: RoutedNetwork, settings: AddSettings) -> dict[int, Tensor]:
    """Units drawn from the seed and the number of tasks, so that each new task draws others."""
    routes: dict[int, Tensor] = {}
    first = parent.shared_routes
    for layer, count in _counts(parent, settings).items():
        if first[layer] != layer:
            routes[layer] = routes[first[layer]]
            continue
        seed = (settings.seed * 1_000_003 + layer) * 1_000_003 + len(parent.tasks)
        generator = torch.Generator().manual_seed(seed)
        scores = torch.rand(parent.layers[layer].shape.units, generator=generator)
        routes[layer] = _best(scores, count)
    return routes


def _salient(
    parent: RoutedNetwork, part: TaskPart, train: Labelled, settings: AddSettings
) -> dict[int, Tensor]:
    """The units that the answers of ``part``, a task with every unit, depend on most."""
    counts = _counts(parent, settings)
    if not counts:
        return {}
    network = alone(parent, part)
    rows = np.random.default_rng(settings.seed).permutation(train.rows)[: settings.saliency_images]
    totals = {
        layer: torch.zeros(network.layers[layer].shape.units, dtype=torch.float64)
        for layer in counts
    }
    for start in range(0, len(rows), _BATCH):
        chosen = np.sort(rows[start : start + _BATCH])
        x, labels = train.features.batch(chosen), integers(train.labels[chosen])
        for layer, scores in batch_scores(network, x, 0, labels, list(counts)).items():
            totals[layer] += scores
    together = stream_scores(
        {layer: scores[None] for layer, scores in totals.items()}, parent.shared_routes
    )
    return {layer: _best(together[layer][0], count) for layer, count in counts.items()}


def _best(scores: Tensor, count: int) -> Tensor:
    """bool [units]: the ``count`` highest; equal ones by the unit's number."""
    ranked = scores.argsort(descending=True, stable=True)
    return torch.zeros_like(scores, dtype=torch.bool).scatter(0, ranked[:count], True)


@torch.no_grad()
def _measure_statistics(
    network: RoutedNetwork, parent: RoutedNetwork, train: Labelled, settings: AddSettings
) -> None:
    """Average the layers' statistics over batches of training images, where tasks have their own.

    A layer normalises with each batch's own statistics meanwhile, as in training.
    """
    own = [name for name in task_parts(parent)[0].tensors if name.endswith(".running_mean")]
    layers = [network.get_submodule(name.removesuffix(".running_mean")) for name in own]
    norms = [layer for layer in layers if isinstance(layer, BatchNorm)]
    if not norms:
        return
    order = np.random.default_rng(settings.seed).permutation(train.rows)
    size = min(settings.batch_size, len(order))
    for norm in norms:
        norm.train()
    for batch in range(min(settings.statistics_batches, len(order) // size)):
        for norm in norms:
            norm.momentum = 1.0 / (batch + 1)  # the mean over all batches so far
        tail(network, train.features.batch(np.sort(order[batch * size : (batch + 1) * size])))
    network.eval()


def _examples(network: RoutedNetwork, data: Labelled) -> Examples:
    """Pooled features of the labelled images."""
    mask = network.routes[-1]
    used = network.layers[-1].shape.units if mask is None else int(mask.sum())
    features, labels = [torch.empty(0, used)], [torch.empty(0, dtype=torch.int64)]
    with torch.no_grad():
        for x, known in data.batches():
            features.append(tail(network, x)[0])
            labels.append(known)
    return Examples(torch.cat(features), torch.cat(labels))


@torch.no_grad()
def _set_head(network: RoutedNetwork, weights: HeadWeights) -> None:
    """Into the columns of the features that the task uses; the others stay zero."""
    heads, mask = network.heads, network.routes[-1]
    used = slice(None) if mask is None else mask[0]
    weight, bias = weights.logits
    heads.bias.copy_(bias)
    if weights.embed is None or heads.embed_weight is None or heads.embed_bias is None:
        heads.weight[:, used] = weight
        return
    heads.weight.copy_(weight)
    heads.embed_weight[0][:, used] = weights.embed[0]
    heads.embed_bias[0] = weights.embed[1]
