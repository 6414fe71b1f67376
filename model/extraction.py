"""A smaller network cut out of a routed one: some tasks, and only the units that any of them uses.

Of one task nothing is left to route: its subnet is a plain network of about keep^2 of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from model.assembly import assemble, task_parts
from model.config import AdapterKind, ModelConfig
from model.network import RoutedNetwork


def cut_out(network: RoutedNetwork, tasks: Sequence[int]) -> RoutedNetwork:
    """The network of ``tasks`` alone, in that order, all of one generation.

    Its answers are theirs but for rounding, since sums run over fewer inputs.

    Raises:
        ConfigError: no task, or one twice.
    """
    parts = task_parts(network)
    parts = [replace(parts[task], generation=0) for task in tasks]
    whole = assemble(network, parts)
    kept = [None if mask is None else mask.any(dim=0).nonzero().flatten() for mask in whole.routes]
    small = RoutedNetwork(_config(whole, kept))
    state = _state(whole, kept)
    small.load_state_dict({name: state[name] for name in small.state_dict()})
    own_norm = network.config.backbone.norm == "batch_per_domain"
    return (_without_adapters(small) if own_norm and len(parts) == 1 else small).eval()


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
    around: Tensor | None = None  # the units left of a residual block's input
    for index, (layer, units) in enumerate(zip(whole.layers, kept, strict=True)):
        prefix = f"layers.{index}."
        around = inputs if layer.shape.begins_block else around
        for name in [name for name in state if name.startswith(prefix)]:
            part = name.removeprefix(prefix)
            for axis, left in _axes(part, layer.shape.adapter, units, inputs, around):
                state[name] = _chosen(state[name], axis, left)
        if layer.shortcut is not None and not layer.shortcut.shape.projected:
            select = layer.shortcut.chosen(around, units)
            if select is not None:
                state[prefix + "shortcut.select"] = select
        inputs = units
    reads_features = "heads.embed_weight" if "heads.embed_weight" in state else "heads.weight"
    state[reads_features] = _chosen(state[reads_features], -1, inputs)
    return state


def _axes(
    name: str,
    adapter: AdapterKind,
    units: Tensor | None,
    inputs: Tensor | None,
    around: Tensor | None,
) -> list[tuple[int, Tensor | None]]:
    """Which axes of a layer's tensor run over its units, its inputs, or its block's inputs."""
    if name == "conv.weight":
        return [(0, units), (1, inputs)]
    if name == "shortcut.conv.weight":
        return [(0, units), (1, around)]
    if name == "adapter.weight":  # beside the convolution it reads the same, behind it its result
        return [(1, units), (2, units if adapter == "series" else inputs)]
    # Everything else ends in the units: vectors, and tables with a row for each task.
    return [] if name.endswith(("batches_seen", "shortcut.select")) else [(-1, units)]


def _without_adapters(small: RoutedNetwork) -> RoutedNetwork:
    """A single task's network with the adapters in the convolutions, and its batch norm as that of
    any network."""
    backbone = small.config.backbone.model_copy(update={"adapters": "none", "norm": "batch"})
    plain = RoutedNetwork(small.config.replace(backbone=backbone.model_dump()))
    state = dict(small.state_dict())
    for index, layer in enumerate(small.layers):
        if layer.adapter is not None and layer.norm is not None:
            name = f"layers.{index}.conv.weight"
            weight, bias = layer.adapter.fold(state[name], 0, None)
            state[name] = weight
            # What the adapter adds to every pixel, batch norm takes away with the mean.
            state[f"layers.{index}.norm.running_mean"] = layer.norm.running_mean - bias
    own = plain.state_dict()
    plain.load_state_dict({name: state[name].view_as(one) for name, one in own.items()})
    return plain


def _fold_modulation(whole: RoutedNetwork, state: dict[str, Tensor]) -> None:
    """A single task's, into batch norm's own scale and shift, or the convolution's weights."""
    for index, layer in enumerate(whole.layers):
        if layer.modulation is None:
            continue
        prefix = f"layers.{index}."
        part = "conv" if layer.norm is None else "norm"
        weight, bias = state[f"{prefix}{part}.weight"], state[f"{prefix}{part}.bias"]
        scale, shift = layer.modulation.fold(0, torch.ones_like(bias), bias)
        # Of a convolution the units are the first axis, of batch norm the last.
        wide = scale.view(-1, 1, 1, 1) if layer.norm is None else scale
        state[f"{prefix}{part}.weight"] = weight * wide
        state[f"{prefix}{part}.bias"] = shift


def _chosen(tensor: Tensor, axis: int, units: Tensor | None) -> Tensor:
    return tensor if units is None else tensor.index_select(axis, units.to(tensor.device))
