"""Cut weights by content: a budget, and claims by those who use them."""

from __future__ import annotations

import gc
from dataclasses import dataclass

from torch import Tensor

from model.strategies import make_forward, sample_batch
from model.weight_cache import WeightCache
from tests.model.networks import make_network


@dataclass
class Weights:
    """Stands for a convolution of so many bytes."""

    bytes: int

    def __call__(self, x: Tensor) -> Tensor:
        return x


def test_the_least_recently_used_goes_first() -> None:
    cache = WeightCache(budget_bytes=20)
    first = cache.get(b"a", lambda: Weights(10))
    cache.get(b"b", lambda: Weights(10))
    assert cache.get(b"a", lambda: Weights(1)) is first
    cache.get(b"c", lambda: Weights(10))
    assert cache.held_bytes == 20
    assert cache.get(b"a", lambda: Weights(1)) is first
    assert cache.get(b"b", lambda: Weights(2)).bytes == 2


def test_what_nobody_claims_any_longer_is_dropped_and_the_rest_stays() -> None:
    cache = WeightCache()
    cache.claim([b"shared", b"old"])
    cache.claim([b"shared", b"new"])
    for key, size in ((b"shared-1", 1), (b"old-1", 10), (b"old-2", 100), (b"new-1", 1000)):
        cache.get(key, lambda size=size: Weights(size))  # type: ignore[misc]
    cache.release([b"shared", b"old"])
    assert cache.held_bytes == 1001
    cache.release([b"shared", b"new"])
    assert cache.held_bytes == 0


def test_a_forward_that_is_gone_leaves_nothing_behind_and_its_sibling_runs_on() -> None:
    cache = WeightCache()
    network = make_network()
    batch = sample_batch(network)
    kept = make_forward(network, "subnet", cache=cache)
    expected = kept(batch)
    alone = cache.held_bytes
    other = make_forward(make_network(seed=1), "subnet", cache=cache)
    other(batch)
    assert cache.held_bytes > alone
    del other
    gc.collect()
    assert cache.held_bytes == alone
    assert kept(batch).equal(expected)
    del kept
    gc.collect()
    assert cache.held_bytes == 0
