"""Weights to begin with: those of a published bundle, or of torchvision's VGG or ResNet.

What fits is copied, layer by layer; routes stay those of the new network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from model.adapters import Adapter
from model.baselines.towers import TowerNetwork
from model.batch_norm import BatchNorm
from model.bundle import MANIFEST, Bundle, read_bundle
from model.conv_layer import RoutedConv
from model.heads import TaskHeads
from model.location import is_url, local_path, split_model
from model.modulation import Modulation
from model.network import RoutedNetwork
from model.repository import Repository
from model.task_network import TaskNetwork
from model.version_names import is_version
from training.errors import SettingsError

_WEIGHTS = (".pth", ".pt", ".safetensors")
_LATEST = "LATEST"
_BLOCK = r"layer(\d+)\.(\d+)\.conv1\.weight"


@dataclass(frozen=True)
class SourceLayer:
    """One convolution to copy from, with the batch norm behind it."""

    weight: Tensor  # [units, in_units, 3, 3]
    bias: Tensor | None  # [units]
    norm: Mapping[str, Tensor] | None
    """weight, bias [units]; running_mean, running_var [rows, units]."""
    used: Tensor | None = None
    """bool [rows, units]: units whose statistics a row has; None for all."""
    modulation: Mapping[str, Tensor] | None = None
    """scale, and maybe shift: [tasks, units]."""
    shortcut: SourceLayer | None = None
    """Of a residual block that ends here: the 1x1 convolution around it."""
    adapter: Mapping[str, Tensor] | None = None
    """weight [tasks, units, inputs], and of a series adapter its batch norm (``norm.*``)."""


@dataclass(frozen=True)
class WarmStart:
    """Where weights come from: layers in order, and the bundle they are of, if any."""

    location: str
    layers: tuple[SourceLayer, ...]
    """Empty where the bundle has a trunk per task."""
    bundle: Bundle | None = None
    towers: Mapping[str, tuple[SourceLayer, ...]] = field(default_factory=dict)
    """By task, where the bundle has a trunk per task."""

    @torch.no_grad()
    def apply(self, network: TaskNetwork) -> str:
        """Copy what fits into ``network``.

        Returns:
            A sentence about what was copied and what was not.

        Raises:
            SettingsError: nothing fits, or a trunk per task for a network with one trunk.
        """
        if self.towers and isinstance(network, RoutedNetwork):
            raise SettingsError(
                f"setting 'init_from' is {self.location!r}, which has a trunk for every task; a "
                "routed network has one for all: begin with a bundle of family 'routed'"
            )
        problems = [
            self._copy_layer(index, layer, source, network)
            for trunk, source in self._trunks(network)
            for index, layer in enumerate(trunk)
        ]
        heads = self._copy_heads(network)
        left = [f"layer {index} ({why})" for index, why in enumerate(problems) if why]
        copied = len(problems) - len(left)
        if not copied and not heads:
            raise SettingsError(
                f"setting 'init_from' is {self.location!r}: nothing in it fits this network: "
                f"{'; '.join(left)}; take the same arch and width as it has"
            )
        text = (
            f"warm start from {self.location}: {copied} of {len(problems)} convolutions and {heads}"
            f" of {len(network.tasks)} heads copied"
        )
        return f"{text}; not copied: {'; '.join(left)}" if left else text

    def _trunks(
        self, network: TaskNetwork
    ) -> Iterator[tuple[Sequence[RoutedConv], Sequence[SourceLayer]]]:
        """Trunks to fill, and what with: towers from the same task's, or all from one trunk."""
        if isinstance(network, RoutedNetwork):
            yield list(network.layers), self.layers
        elif isinstance(network, TowerNetwork):
            for task, tower in zip(network.tasks, network.towers, strict=True):
                yield list(tower), self.towers.get(task.name, self.layers)

    def _copy_layer(
        self,
        index: int,
        layer: RoutedConv,
        layers: Sequence[SourceLayer],
        network: TaskNetwork,
    ) -> str:
        """Why layer ``index`` of a trunk could not be copied; empty where it was."""
        if index >= len(layers):
            return f"the source has {len(layers)}"
        source, weight = layers[index], layer.conv.weight
        if source.weight.shape != weight.shape:
            return f"{list(source.weight.shape)} there, {list(weight.shape)} here"
        if source.norm is not None and layer.norm is None:
            return "its weights need the batch norm behind them"
        around = None if layer.shortcut is None else layer.shortcut.conv
        theirs = None if source.shortcut is None else source.shortcut.weight
        if (None if around is None else around.weight.shape) != (
            None if theirs is None else theirs.shape
        ):
            return "its shortcut is another"
        weight.copy_(source.weight)
        rows = self._rows(network)
        if layer.modulation is not None and source.modulation is not None:
            _copy_tables(layer.modulation, source.modulation, rows)
        if layer.adapter is not None and source.adapter is not None:
            _copy_tables(layer.adapter, source.adapter, rows)
        if around is not None and theirs is not None and source.shortcut is not None:
            around.weight.copy_(theirs)
            norm = None if layer.shortcut is None else layer.shortcut.norm
            if norm is not None and source.shortcut.norm is not None:
                _copy_norm(norm, source.shortcut.norm, source.used, rows)
        if layer.norm is not None:
            if source.norm is not None:
                _copy_norm(layer.norm, source.norm, source.used, rows)
        elif layer.conv.bias is not None and source.bias is not None:
            layer.conv.bias.copy_(source.bias)
        return ""

    def _rows(self, network: TaskNetwork) -> list[int | None]:
        """For each task, the row that it had in a bundle's tables by task."""
        known = {} if self.bundle is None else _positions(self.bundle)
        return [known.get(task.name) for task in network.tasks]

    def _copy_heads(self, network: TaskNetwork) -> int:
        """Heads of tasks that the bundle has under the same name with the same classes."""
        if self.bundle is None:
            return 0
        there, known, copied = self.bundle.any_network().heads, _positions(self.bundle), 0
        here = network.heads
        if _head_shapes(there) != _head_shapes(here):
            return 0
        for position, task in enumerate(network.tasks):
            other = known.get(task.name)
            if other is None or self.bundle.config.tasks[other].classes != task.classes:
                continue
            here.copy_task(position, there, other)
            copied += 1
        return copied


def _head_shapes(heads: TaskHeads) -> list[tuple[str, torch.Size]]:
    """What one head's tensors look like, whatever the tasks."""
    return [(name, value.shape[1:]) for name, value in heads.named_parameters()]


def _positions(bundle: Bundle) -> dict[str, int]:
    return {task.name: position for position, task in enumerate(bundle.config.tasks)}


def _copy_norm(
    norm: BatchNorm, source: Mapping[str, Tensor], used: Tensor | None, rows: list[int | None]
) -> None:
    """Scale and shift; a task's own statistics of the units it used, for the rest all tasks'.

    From a batch norm per domain a task without one there gets the mean of all.
    """
    for value, there in ((norm.weight, source["weight"]), (norm.bias, source["bias"])):
        value.copy_(there.mean(dim=0) if there.ndim == 2 else there)
        if there.ndim == 2 and norm.own_affine:
            for row, other in _known(rows):
                value[row] = there[other]
    means, variances = source["running_mean"], source["running_var"]
    mean, variance = _pooled(means, variances, used)
    norm.running_mean.copy_(mean.expand_as(norm.running_mean))
    norm.running_var.copy_(variance.expand_as(norm.running_var))
    if not norm.per_task or len(means) == 1:
        return
    for row, other in _known(rows):
        units = slice(None) if used is None else used[other]
        norm.running_mean[row, units] = means[other, units]
        norm.running_var[row, units] = variances[other, units]


def _copy_tables(
    module: Modulation | Adapter, source: Mapping[str, Tensor], rows: list[int | None]
) -> None:
    """A task's own, where it had one; for others, the identity stays, and so does what the source
    does not have in this shape (a kind without shift, another kind of adapter)."""
    for name, table in module.state_dict(keep_vars=True).items():
        if name in source and source[name].shape[1:] == table.shape[1:]:
            for row, other in _known(rows):
                table[row] = source[name][other]


def _known(rows: list[int | None]) -> list[tuple[int, int]]:
    return [(row, other) for row, other in enumerate(rows) if other is not None]


def _pooled(means: Tensor, variances: Tensor, used: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and variance [units] of all rows' values together; 0 and 1 for units that none used."""
    if len(means) == 1:
        return means[0], variances[0]
    weight = torch.ones_like(means) if used is None else used.to(means.dtype)
    count = weight.sum(dim=0)
    mean = (weight * means).sum(dim=0) / count.clamp(min=1)
    # Law of total variance: within rows, and between their means.
    variance = (weight * (variances + (means - mean) ** 2)).sum(dim=0) / count.clamp(min=1)
    return mean, torch.where(count > 0, variance, 1.0)


def read_warm_start(location: str) -> WarmStart:
    """Read what ``init_from`` names: REPOSITORY/NAME, REPOSITORY/NAME/VERSION, or a weights file.

    Raises:
        SettingsError: neither a bundle nor a weights file, or a file without a VGG's layers.
        TaskRouteError: a bundle that cannot be read.
    """
    if is_url(location):
        bundle = _published(location)
        return _of_bundle(location, bundle)
    path = local_path(location)
    if path.is_file() and path.suffix in _WEIGHTS:
        return WarmStart(location, _torchvision_layers(location, _read_weights(path)))
    if (path / MANIFEST).is_file():
        bundle = read_bundle(path)
    elif (path / _LATEST).is_file():
        bundle = Repository(path.parent).read(path.name)
    else:
        raise SettingsError(
            f"setting 'init_from' is {location!r}: no bundle (REPOSITORY/NAME or "
            f"REPOSITORY/NAME/VERSION) and no weights file ({', '.join(_WEIGHTS)}) is there"
        )
    return _of_bundle(location, bundle)


def _of_bundle(location: str, bundle: Bundle) -> WarmStart:
    network = bundle.any_network()
    if isinstance(network, RoutedNetwork):
        return WarmStart(location, _source_layers(network.layers), bundle)
    towers = {}
    if isinstance(network, TowerNetwork):
        trunks = zip(network.tasks, network.towers, strict=True)
        towers = {task.name: _source_layers(tower) for task, tower in trunks}
    return WarmStart(location, (), bundle, towers)


def _published(url: str) -> Bundle:
    """The bundle of a model, or of one of its versions, on an object store."""
    repository, name = split_model(url)
    version = None
    if is_version(name) and "/" in repository.partition("://")[2]:
        version = int(name)
        repository, name = split_model(repository)
    return Repository(repository).read(name, version)


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            content = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, UnpicklingError, RuntimeError, EOFError) as error:
        reason = " ".join(str(error).split())[:300]
        raise SettingsError(
            f"setting 'init_from' is {str(path)!r}: cannot be read as tensors: {reason}"
        ) from error
    nested = content.get("state_dict", content) if isinstance(content, dict) else {}
    named = nested.items() if isinstance(nested, dict) else ()
    return {name: value for name, value in named if isinstance(value, Tensor)}


def _torchvision_layers(location: str, state: Mapping[str, Tensor]) -> tuple[SourceLayer, ...]:
    """torchvision's VGG: ``features.N.*``, a convolution's batch norm right behind it."""
    numbers = sorted({int(m[1]) for name in state if (m := re.match(r"features\.(\d+)\.", name))})
    parts = [
        {
            name.removeprefix(f"features.{number}."): value
            for name, value in state.items()
            if name.startswith(f"features.{number}.")
        }
        for number in numbers
    ]
    if "layer1.0.conv1.weight" in state:
        try:
            return tuple(_resnet_layers(state))
        except KeyError as error:
            raise SettingsError(
                f"setting 'init_from' is {location!r}: a ResNet, but without {error.args[0]!r}, "
                "which torchvision's have; take torchvision's weights file as it is"
            ) from error
    layers = []
    for index, part in enumerate(parts):
        if "weight" in part and part["weight"].ndim == 4:
            behind = parts[index + 1] if index + 1 < len(parts) else {}
            norm = _norm_behind(part.get("bias"), behind) if "running_mean" in behind else None
            layers.append(SourceLayer(part["weight"], part.get("bias"), norm))
    if not layers:
        raise SettingsError(
            f"setting 'init_from' is {location!r}: no convolutions of a torchvision VGG "
            f"(features.N.weight) or ResNet (layerN.N.convN.weight) among its {len(state)} tensors"
        )
    return tuple(layers)


def _resnet_layers(state: Mapping[str, Tensor]) -> Iterator[SourceLayer]:
    """torchvision's ResNet: ``conv1``, then ``layerN.BLOCK.convN``, each with its ``bnN``, and the
    shortcut's ``downsample.0`` and ``.1``."""

    def layer(conv: str, norm: str, shortcut: SourceLayer | None = None) -> SourceLayer:
        parts = ("weight", "bias", "running_mean", "running_var")
        behind = {part: state[f"{norm}.{part}"] for part in parts}
        return SourceLayer(
            state[f"{conv}.weight"], None, _norm_behind(None, behind), shortcut=shortcut
        )

    yield layer("conv1", "bn1")
    blocks = {(int(m[1]), int(m[2])) for name in state if (m := re.match(_BLOCK, name))}
    for stage, number in sorted(blocks):
        block = f"layer{stage}.{number}."
        count = sum(bool(re.fullmatch(rf"{re.escape(block)}conv\d\.weight", n)) for n in state)
        for index in range(1, count + 1):
            around = index == count and f"{block}downsample.0.weight" in state
            shortcut = layer(f"{block}downsample.0", f"{block}downsample.1") if around else None
            yield layer(f"{block}conv{index}", f"{block}bn{index}", shortcut)


def _norm_behind(bias: Tensor | None, norm: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # Our convolutions have no bias in front of a batch norm: it only moves the mean.
    mean = norm["running_mean"] if bias is None else norm["running_mean"] - bias
    return {
        "weight": norm["weight"],
        "bias": norm["bias"],
        "running_mean": mean[None],
        "running_var": norm["running_var"][None],
    }


def _source_layers(layers: Iterable[RoutedConv]) -> tuple[SourceLayer, ...]:
    return tuple(
        SourceLayer(
            layer.conv.weight,
            layer.conv.bias,
            None if layer.norm is None else layer.norm.state_dict(),
            None if layer.route is None else layer.route.mask,
            None if layer.modulation is None else layer.modulation.state_dict(),
            _shortcut(layer),
            None if layer.adapter is None else layer.adapter.state_dict(),
        )
        for layer in layers
    )


def _shortcut(layer: RoutedConv) -> SourceLayer | None:
    around = layer.shortcut
    if around is None or around.conv is None or around.norm is None:
        return None
    return SourceLayer(around.conv.weight, None, around.norm.state_dict())
