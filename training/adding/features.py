"""What the frozen prefix makes of the images, computed once and mapped from a file.

Everything before the first route is the same for all tasks and does not change when one is added,
so a new task trains on the prefix's output. The key of an entry (:mod:`training.array_file`) is
made of the prefix's own weights: the next task that is added finds it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.network import RoutedNetwork
from model.normalisation import normalised
from model.preprocess import Pixels
from model.tasks import Normalisation
from training.array_file import About, ArrayFile

_BATCH = 128
Advance = Callable[[int, int], None]


class Features(Protocol):
    """Outputs of a network's frozen prefix, image by image."""

    def __len__(self) -> int: ...

    def batch(self, rows: NDArray[np.int64]) -> Tensor:
        """float32 [n, units, H, W] of the images ``rows``."""
        ...


@dataclass(frozen=True, eq=False)
class MappedFeatures:
    """Features in a file."""

    values: NDArray[np.float32]  # [N, H, W, units]

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, rows: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self.values[rows]).permute(0, 3, 1, 2)


@dataclass(frozen=True, eq=False)
class PixelFeatures:
    """Of a network whose first layer differs by task: the normalised images, smaller as pixels."""

    network: RoutedNetwork
    pixels: Pixels
    flip: bool
    own: Normalisation | None = None

    def __len__(self) -> int:
        return len(self.pixels) * (2 if self.flip else 1)

    def batch(self, rows: NDArray[np.int64]) -> Tensor:
        images = self.pixels[rows % len(self.pixels)]
        mirrored = rows >= len(self.pixels)
        images[mirrored] = images[mirrored, :, ::-1]
        return _input(self.network, images, self.own)


def prefix_end(network: RoutedNetwork) -> int:
    """Index of the first layer that is not the same for all tasks, or where the residual block
    that it lies in begins; the number of layers where tasks differ in their heads alone."""
    return network.block_start(network.first_own)


def prefix_features(
    network: RoutedNetwork,
    pixels: Pixels,
    source: str,
    folder: Path,
    *,
    flip: bool = False,
    own: Normalisation | None = None,
    advance: Advance = lambda done, total: None,
) -> Features:
    """Features of ``pixels`` [N, H, W, 3]; with ``flip`` of the mirrored images behind them.

    Args:
        own: the new tasks' normalisation; None: the model's.
        source: equal for equal images in equal order; part of the entry's key.
        folder: where entries are kept.

    Raises:
        DataError: the folder cannot be written.
    """
    if prefix_end(network) == 0:
        return PixelFeatures(network, pixels, flip, own)
    entry = ArrayFile(folder, _key(network, source, flip, own), "f32", np.float32)
    about = entry.about()
    if about is None or not entry.holds(tuple(about["shape"])):
        about = _write(entry, _computed(network, pixels, flip, own, advance))
    return MappedFeatures(entry.mapped(tuple(about["shape"])))


def _write(entry: ArrayFile, computed: Iterator[NDArray[np.float32]]) -> About:
    images, inner = 0, ()

    def blocks() -> Iterator[NDArray[np.float32]]:
        nonlocal images, inner
        for block in computed:
            yield block
            images, inner = images + len(block), block.shape[1:]

    return entry.write(blocks(), lambda: {"shape": [images, *inner]})


def _computed(
    network: RoutedNetwork,
    pixels: Pixels,
    flip: bool,
    own: Normalisation | None,
    advance: Advance,
) -> Iterator[NDArray[np.float32]]:
    """Blocks [n, H, W, units]; pooled, [n, 1, 1, units], where no layer is routed."""
    end = prefix_end(network)
    total, done = len(pixels) * (2 if flip else 1), 0
    for mirrored in (False, True) if flip else (False,):
        for start in range(0, max(1, len(pixels)), _BATCH):
            images = np.array(pixels[start : start + _BATCH])
            images = np.ascontiguousarray(images[:, :, ::-1]) if mirrored else images
            with torch.inference_mode():
                x = _input(network, images, own)
                x, _ = network.run_to_end(x, range(end), 0)
                if end == len(network.layers):
                    x = x.mean(dim=(2, 3), keepdim=True)
            done += len(images)
            advance(done, total)
            yield x.permute(0, 2, 3, 1).contiguous().numpy()


def _input(network: RoutedNetwork, images: Pixels, own: Normalisation | None) -> Tensor:
    pixels = torch.from_numpy(images)
    return network.normalise(pixels) if own is None else normalised(pixels, own)


def _key(network: RoutedNetwork, source: str, flip: bool, own: Normalisation | None) -> str:
    about = f"{source} {network.config.preprocess.id} {flip}"
    digest = hashlib.sha256((about if own is None else f"{about} {own}").encode())
    for layer in list(network.layers)[: prefix_end(network)]:
        for tensor in layer.state_dict().values():
            digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()[:24]
