"""A network's cut convolutions: made on demand, run by the kernels that are fastest here.

On CPUs in float32 the compiled library (:mod:`model.native`), where it is at hand, runs them all,
and a task's own layers with its head in one call. Elsewhere layers run one by one: by Winograd's
algorithm (:mod:`model.winograd`) where that pays, else by oneDNN or cuDNN (:mod:`model.cut_conv`).

The choice depends on the layer's shape alone, never on the batch: no row's answer depends on its
neighbours by a bit.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.cut_conv import CutConv
from model.native.library import Chain, Library, PackedConv, PackedHead, native_library
from model.network import RoutedNetwork
from model.normalisation import pixel_levels
from model.plan import Cut
from model.tails import Tail
from model.weight_cache import WeightCache, content_key
from model.winograd import (
    WinogradConv,
    compiled_winograd_pays,
    transform_weight,
    winograd_bytes,
    winograd_pays,
)


@dataclass(frozen=True, eq=False)
class _Choice:
    """A cut and how it is computed."""

    cut: Cut
    key: bytes  # of its weights in the cache
    winograd: bool


@dataclass(frozen=True, eq=False)
class Subnet:
    """What a task runs alone, up to its logits: all its layers, or those behind shared ones."""

    task: int
    layers: tuple[_Choice, ...]
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
    ) -> None:
        """``tails``: what tasks run alone; their weights decide which kernels fit the cache.
        ``native``: whether the compiled library may be used."""
        self._network, self._device, self._dtype = network, device, dtype
        self._cache = cache
        runs = native and device.type == "cpu" and dtype == torch.float32
        self._native = native_library() if runs else None
        # Winograd's weights are four times as large: for the tasks' own layers only where they all
        # fit beside the direct ones, or each request would evict what the next one needs.
        # Generation by generation: tasks that are added change no earlier one's kernel.
        self._winograd_tails: set[bytes] = set()
        generation_of, left = network.config.generation_of, cache.budget_bytes // 2
        listed = list(tails)
        for generation in sorted({generation_of[tail.task] for tail in listed}):
            members = [tail for tail in listed if generation_of[tail.task] == generation]
            paying = [cut for tail in members for cut in tail.cuts if self._pays(cut)]
            left -= sum(map(winograd_bytes, paying))
            if left >= 0:
                self._winograd_tails.update(cut.key for cut in paying)
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

    def subnet(
        self, task: int, shared: Iterable[Cut], own: Iterable[Cut], units: Tensor | None
    ) -> Subnet:
        """A task's layers and head.

        Args:
            shared: its share of the layers that it shares with others, computed for it alone.
            own: its own layers.
            units: the features that its head reads (int64), None for all.

        Raises:
            RuntimeError: not ``has_subnets``.
        """
        head = self._library().pack_head(*self._network.heads.parts(task, units))
        layers = [self._choice(cut, tail=False) for cut in shared]
        layers += [self._choice(cut, tail=True) for cut in own]
        return Subnet(task, tuple(layers), head)

    def __call__(self, x: Tensor, cuts: Sequence[Cut], *, tail: bool) -> Tensor:
        """One layer's convolution; of several cuts, on their inputs side by side.

        Args:
            x: [N, the cuts' inputs, H, W], channels last.
            tail: whether the layer is a task's own.

        Returns:
            [N, the cuts' outputs, H', W'], channels last.
        """
        if len(cuts) == 1:
            choice = self._choice(cuts[0], tail=tail)
            if self._native is not None:
                return self._native.convolve(x, self._packed(choice), torch.get_num_threads())
            if choice.winograd:
                return self._cache.get(choice.key, lambda: self._torch_winograd(choice.cut))(x)
        layer = self._network.layers[cuts[0].layer]
        return self._cache.get(self._key(cuts), lambda: CutConv.cut(layer, cuts, self._dtype))(x)

    def logits(self, inputs: Sequence[SubnetInput], threads: int) -> Tensor:
        """Of all subnets' rows in order: float32 [rows, max_outputs], -inf beyond a task's outputs.

        Those that are asked about the images themselves are of one domain.

        Raises:
            RuntimeError: not ``has_subnets``.
        """
        chains = [
            Chain([self._packed(choice) for choice in asked.subnet.layers], asked.subnet.head,
                  asked.x, asked.rows, asked.select)
            for asked in inputs
        ]  # fmt: skip
        most = self._network.tasks.max_outputs
        domains = [
            self._network.domain_of[asked.subnet.task]
            for asked in inputs
            if asked.x.dtype == torch.uint8
        ]
        return self._library().logits(chains, self._levels[max(domains, default=0)], most, threads)

    def _library(self) -> Library:
        if self._native is None:
            raise RuntimeError("no compiled kernels here: ask `has_subnets` first")
        return self._native

    def _pays(self, cut: Cut) -> bool:
        if self._native is not None:
            return compiled_winograd_pays(self._network.layers[cut.layer].shape, cut)
        return winograd_pays(cut, self._device, self._dtype)

    def _choice(self, cut: Cut, *, tail: bool) -> _Choice:
        winograd = (not tail or cut.key in self._winograd_tails) and self._pays(cut)
        return _Choice(cut, self._key([cut]) + (b"winograd" if winograd else b"direct"), winograd)

    def _packed(self, choice: _Choice) -> PackedConv:
        return self._cache.get(choice.key, lambda: self._pack(choice))

    def _pack(self, choice: _Choice) -> PackedConv:
        layer = self._network.layers[choice.cut.layer]
        weight, bias = choice.cut.folded(layer, self._dtype)
        if choice.winograd:
            weight = transform_weight(weight).permute(2, 1, 0)
        return self._library().pack(weight, bias, pool=layer.shape.pool, winograd=choice.winograd)

    def _torch_winograd(self, cut: Cut) -> WinogradConv:
        return WinogradConv.cut(self._network.layers[cut.layer], cut, self._dtype)

    def _key(self, cuts: Sequence[Cut]) -> bytes:
        return b"".join([self._keys[cuts[0].layer], *(cut.key for cut in cuts)])
