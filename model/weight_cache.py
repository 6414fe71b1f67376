"""Cut weights, made on demand and kept under a byte budget."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar, cast

import torch

from model.conv_layer import RoutedConv

DEFAULT_BUDGET_BYTES = 2 * 2**30


class CutWeights(Protocol):
    """A convolution's weights, cut, in the order that some kernel wants."""

    @property
    def bytes(self) -> int:
        """How much memory they take."""


Weights = TypeVar("Weights", bound=CutWeights)


class WeightCache:
    """Cut weights by content; the least recently used go first.

    One cache may serve several versions of a model: a version's unchanged layers have equal keys,
    so their cut weights exist once. Who uses layers claims them; what nobody claims any longer goes
    at once. Safe for several threads.
    """

    def __init__(self, budget_bytes: int = DEFAULT_BUDGET_BYTES) -> None:
        self.budget_bytes = budget_bytes
        # Reentrant: a release may come from the garbage collector, within any line below.
        self._lock = threading.RLock()
        self._claims: Counter[bytes] = Counter()
        self._held: OrderedDict[bytes, CutWeights] = OrderedDict()
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of weights held now."""
        return self._held_bytes

    def get(self, key: bytes, make: Callable[[], Weights]) -> Weights:
        """The weights under ``key``, made if they are not held; valid even after their eviction.

        A key belongs to one kind of weights.
        """
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return cast(Weights, self._held[key])
        made = make()
        with self._lock:
            if key not in self._held:
                self._held[key] = made
                self._held_bytes += made.bytes
            while self._held_bytes > self.budget_bytes and len(self._held) > 1:
                self._held_bytes -= self._held.popitem(last=False)[1].bytes
        return made

    def claim(self, layers: Iterable[bytes]) -> None:
        """Say that the layers with these content keys are in use, each once more."""
        with self._lock:
            self._claims.update(layers)

    def release(self, layers: Iterable[bytes]) -> None:
        """Take back a claim; weights of layers that nobody else claims are dropped.

        They are found by their keys, which begin with the layer's.
        """
        with self._lock:
            self._claims.subtract(layers)
            unused = tuple(layer for layer, users in self._claims.items() if users <= 0)
            for layer in unused:
                del self._claims[layer]
            for key in [key for key in self._held if key.startswith(unused)]:
                self._held_bytes -= self._held.pop(key).bytes


def content_key(layer: RoutedConv, dtype: torch.dtype) -> bytes:
    """Equal for layers whose cut weights would be equal for equal units."""
    digest = hashlib.blake2b(f"{dtype} {layer.shape}".encode(), digest_size=16)
    for name, tensor in layer.state_dict().items():
        if not name.startswith("route."):
            digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.digest()
