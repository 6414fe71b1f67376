"""A network's cut convolutions: made on demand, run by the kernels that are fastest here.

On CPUs in float32 the compiled library (:mod:`model.native`), where it is at hand, runs them all,
and a task's own layers with its head in one call; by Winograd's algorithm where that pays
(:mod:`model.winograd`). Elsewhere layers run one by one in oneDNN or cuDNN (:mod:`model.cut_conv`,
:mod:`model.cut_residual`). A residual network always runs so: the library's calls are for chains.

The algorithm depends on the layer's shape alone, never on the batch, on other tasks, or on memory:
no row's answer depends on its neighbours by a bit, nor on tasks added later. Memory decides only
whether weights are transformed for Winograd's algorithm once or in every call.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from model.compiled_tail import PlainConv
from model.cut_conv import CutConv
from model.cut_residual import CutResidual
from model.forward import Computing, nobody_waits
from model.native.library import (
    Algorithm,
    Chain,
    Library,
    PackedConv,
    PackedHead,
    native_library,
)
from model.network import RoutedNetwork
from model.normalisation import pixel_levels
from model.plan import Cut
from model.tails import Tail
from model.weight_cache import WeightCache, content_key
from model.winograd import winograd_pays

# Of the budget, for the tasks' own weights; the rest is for shared layers and a next version.
_KEPT_SHARE = 0.75


@dataclass(frozen=True, eq=False)
class _Layer:
    """A cut and where its weights are."""

    cut: Cut
    key: bytes  # of its packed weights in the cache


@dataclass(frozen=True, eq=False)
class Subnet:
    """What a task runs alone, up to its logits: all its layers, or those behind shared ones."""

    task: int
    layers: tuple[_Layer, ...]
    head: PackedHead


@dataclass(frozen=True, eq=False)
class SubnetInput:
    """A subnet and what it is asked about."""

    subnet: Subnet
    x: Tensor  # [N, C, H, W], channels last; or the images themselves, uint8 [N, H, W, 3]
    rows: Sequence[int]  # positions in x
    select: Tensor | None = None  # int64: the channels that the first layer reads, None for all


class Convolutions:
    """The convolutions of one network, with weights from a cache that versions may share."""

    def __init__(
        self,
        network: RoutedNetwork,
        device: torch.device,
        dtype: torch.dtype,
        cache: WeightCache,
        tails: Iterable[Tail],
        *,
        native: bool,
        threads: int,
    ) -> None:
        """``tails``: what tasks run alone; ``native``: whether the compiled library may be used, by
        so many ``threads``."""
        self._network, self._device, self._dtype = network, device, dtype
        self._cache = cache
        runs = native and device.type == "cpu" and dtype == torch.float32 and is_chain(network)
        self._native = native_library() if runs else None
        self._threads = threads
        self._no_room = self._beyond(_KEPT_SHARE * cache.budget_bytes, tails)
        self._keys = [content_key(layer, dtype) for layer in network.layers]
        cache.claim(self._keys)
        weakref.finalize(self, cache.release, self._keys).atexit = False
        self._levels = pixel_levels(network.mean, network.std)

    @property
    def kernels(self) -> str:
        """What runs them: "pytorch", or "compiled" and the instruction set."""
        return "pytorch" if self._native is None else f"compiled {self._native.name}"

    @property
    def has_subnets(self) -> bool:
        """Whether a task's own layers and its head can run in one call."""
        return self._native is not None

    def subnet(self, task: int, cuts: Iterable[Cut], units: Tensor | None) -> Subnet:
        """A task's layers and head.

        Args:
            cuts: of the layers.
            units: the features that its head reads (int64), None for all.

        Raises:
            RuntimeError: not ``has_subnets``.
        """
        head = self._library().pack_head(*self._network.heads.parts(task, units))
        return Subnet(task, tuple(map(self._layer, cuts)), head)

    def __call__(self, x: Tensor, cuts: Sequence[Cut], block_input: Tensor | None = None) -> Tensor:
        """One layer's convolution; of several cuts, on their inputs side by side.

        Args:
            x: [N, the cuts' inputs, H, W], channels last.
            block_input: of the residual block that the layer ends; there is a single cut then.

        Returns:
            [N, the cuts' outputs, H', W'], channels last.
        """
        layer = self._network.layers[cuts[0].layer]
        if not layer.shape.plain:
            make = partial(CutResidual.cut, layer, cuts[0], self._dtype)
            return self._cache.get(self._key(cuts), make)(x, block_input)
        if len(cuts) == 1 and self._native is not None:
            packed = self._packed(self._layer(cuts[0]))
            return self._native.convolve(x, packed, self._threads)
        return self._cache.get(self._key(cuts), lambda: CutConv.cut(layer, cuts, self._dtype))(x)

    def plain(self, cut: Cut) -> PlainConv:
        """The weights of a cut as PyTorch's operators take them."""

        def make() -> PlainConv:
            layer = self._network.layers[cut.layer]
            weight, bias = cut.folded(layer, self._dtype)
            weight = weight.contiguous(memory_format=torch.channels_last)
            return PlainConv(weight, bias, layer.shape.pool)

        return self._cache.get(self._key([cut]) + b"plain", make)

    def logits(self, inputs: Sequence[SubnetInput], computing: Computing = nobody_waits) -> Tensor:
        """Of all subnets' rows in order: float32 [rows, max_outputs], -inf beyond a task's outputs.

        Those that are asked about the images themselves are of one domain.

        Raises:
            RuntimeError: not ``has_subnets``.
        """
        chains = [
            Chain([self._packed(one, computing) for one in asked.subnet.layers], asked.subnet.head,
                  asked.x, asked.rows, asked.select)
            for asked in inputs
        ]  # fmt: skip
        most = self._network.tasks.max_outputs
        domains = [
            self._network.domain_of[asked.subnet.task]
            for asked in inputs
            if asked.x.dtype == torch.uint8
        ]
        return self._library().logits(
            chains, self._levels[max(domains, default=0)], most, self._threads, computing
        )

    def _library(self) -> Library:
        if self._native is None:
            raise RuntimeError("no compiled kernels here: ask `has_subnets` first")
        return self._native

    def _layer(self, cut: Cut) -> _Layer:
        return _Layer(cut, self._key([cut]) + b"packed")

    def _packed(self, layer: _Layer, computing: Computing = nobody_waits) -> PackedConv:
        def make() -> PackedConv:
            computing()  # weights to be cut first: nobody is to wait for those of many tasks
            return self._pack(layer.cut)

        return self._cache.get(layer.key, make)

    def _pack(self, cut: Cut) -> PackedConv:
        layer = self._network.layers[cut.layer]
        weight, bias = cut.folded(layer, self._dtype)
        algorithm: Algorithm = "direct"
        if winograd_pays(layer.shape, cut):
            algorithm = "winograd" if cut.key in self._no_room else "winograd kept"
        return self._library().pack(weight, bias, pool=layer.shape.pool, algorithm=algorithm)

    def _beyond(self, room: float, tails: Iterable[Tail]) -> set[bytes]:
        """The tails' cuts whose weights, transformed for Winograd, do not fit into ``room`` bytes
        beside those of all others: kept, they would make each request evict what the next needs."""
        cuts = [cut for tail in tails for cut in tail.cuts]
        left, found = room - sum(4 * cut.weights for cut in cuts), set()
        for cut in cuts:
            if winograd_pays(self._network.layers[cut.layer].shape, cut):
                left -= 3 * 4 * cut.weights  # four times as large
                if left < 0:
                    found.add(cut.key)
        return found

    def _key(self, cuts: Sequence[Cut]) -> bytes:
        return b"".join([self._keys[cuts[0].layer], *(cut.key for cut in cuts)])


def is_chain(network: RoutedNetwork) -> bool:
    """Whether the layers are plain ones, one behind the other, without a way around any."""
    return all(layer.shape.plain and not layer.shape.begins_block for layer in network.layers)
