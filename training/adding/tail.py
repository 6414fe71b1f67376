"""What a new task trains on: its own layers behind the frozen prefix's features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.network import RoutedNetwork
from training.adding.features import Features, prefix_end
from training.sources import MISSING, Labels

_BATCH = 128


@dataclass(frozen=True, eq=False)
class Labelled:
    """Features of a split's images, and one task's labels of them."""

    features: Features
    labels: Labels  # [N], MISSING where nobody answered

    @property
    def rows(self) -> NDArray[np.int64]:
        """Images with a label."""
        return np.flatnonzero(self.labels != MISSING)

    def batches(self, size: int = _BATCH) -> Iterator[tuple[Tensor, Tensor]]:
        """Features and labels of the labelled images, in order."""
        for start in range(0, len(self.rows), size):
            chosen = self.rows[start : start + size]
            yield self.features.batch(chosen), integers(self.labels[chosen])


def tail(network: RoutedNetwork, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Of a network of one task: from the frozen prefix's end to pooled features, and which."""
    x, used = network.run_to_end(x, range(prefix_end(network), len(network.layers)), 0)
    return x.mean(dim=(2, 3)), used


def integers(labels: Labels) -> Tensor:
    """int64, as losses want them."""
    return torch.from_numpy(labels.astype(np.int64))
