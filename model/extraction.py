"""A smaller network cut out of a routed one: some tasks, and only the units that any of them uses.

Of one task nothing is left to route: its subnet is a plain network of about keep^2 of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from model.assembly import assemble, task_parts
from model.config import ModelConfig
from model.network import RoutedNetwork


def cut_out(network: RoutedNetwork, tasks: Sequence[int]) -> RoutedNetwork:
    """The network of ``tasks`` alone, in that order, all of one generation.

    Its answers are theirs but for rounding, since sums run over fewer inputs.

    Raises:
        ConfigError: no task, or one twice.
    """
    parts = task_parts(network)
    whole = assemble(network, [replace(parts[task], generation=0) for task in tasks])
    kept = [None if mask is None else mask.any(dim=0).nonzero().flatten() for mask in whole.routes]
    small = RoutedNetwork(_config(whole, kept))
    state = _state(whole, kept)
    small.load_state_dict({name: state[name] for name in small.state_dict()})
    return small.eval()


# Names' ends of tensors [tasks, units].
_TABLES = (".mask", ".running_mean", ".running_var", ".modulation.scale", ".modulation.shift")


def _config(whole: RoutedNetwork, kept: Sequence[Tensor | None]) -> ModelConfig:
    units = tuple(
        layer.shape.units if one is None else len(one)
        for layer, one in zip(whole.layers, kept, strict=True)
    )
    routing = whole.config.routing.model_copy(
        # Whatever scheme gave each task its units: here they are given.
        update={
            "scheme": "independent",
            "routed_layers": "none",
            "keep": 1.0,
            "group_layers": 0,
            "keep_schedule": "constant",
            "modulation": "none",
        }
    )
    routed = tuple(index for index, one in enumerate(kept) if one is not None)
    if len(whole.tasks) > 1 and routed:
        masks = [mask for mask in whole.routes if mask is not None]
        shares = tuple(
            int(mask[0].sum()) / units[index] for index, mask in zip(routed, masks, strict=True)
        )
        modulation = whole.config.routing.modulation
        routing = routing.model_copy(
            update={"routed_layers": routed, "keep": shares, "modulation": modulation}
        )
    backbone = whole.config.backbone.model_copy(update={"units": units})
    return whole.config.replace(backbone=backbone.model_dump(), routing=routing.model_dump())


def _state(whole: RoutedNetwork, kept: Sequence[Tensor | None]) -> dict[str, Tensor]:
    """The state of ``whole`` with the units that nobody uses left out."""
    state = dict(whole.state_dict())
    if len(whole.tasks) == 1:
        _fold_modulation(whole, state)
    inputs: Tensor | None = None
    for index, units in enumerate(kept):
        prefix = f"layers.{index}."
        for name in [name for name in state if name.startswith(prefix)]:
            # Units are the first axis of weights and biases, the last one of tables by task.
            by_task = name.endswith(_TABLES)
            if not name.endswith(".batches_seen"):
                state[name] = _chosen(state[name], 1 if by_task else 0, units)
        weight = prefix + "conv.weight"
        state[weight] = _chosen(state[weight], 1, inputs)
        inputs = units
    reads_features = "heads.embed_weight" if "heads.embed_weight" in state else "heads.weight"
    state[reads_features] = _chosen(state[reads_features], -1, inputs)
    return state


def _fold_modulation(whole: RoutedNetwork, state: dict[str, Tensor]) -> None:
    """A single task's, into batch norm's own scale and shift, or the convolution's weights."""
    for index, layer in enumerate(whole.layers):
        if layer.modulation is None:
            continue
        prefix = f"layers.{index}."
        part = "conv" if layer.norm is None else "norm"
        weight, bias = state[f"{prefix}{part}.weight"], state[f"{prefix}{part}.bias"]
        scale, shift = layer.modulation.fold(0, torch.ones_like(bias), bias)
        state[f"{prefix}{part}.weight"] = weight * scale.view(-1, *(1,) * (weight.ndim - 1))
        state[f"{prefix}{part}.bias"] = shift


def _chosen(tensor: Tensor, axis: int, units: Tensor | None) -> Tensor:
    return tensor if units is None else tensor.index_select(axis, units.to(tensor.device))
