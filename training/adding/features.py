"""What the frozen prefix makes of the images, computed once and mapped from a file.

Everything before the first route is the same for all tasks and does not change when one is added,
so a new task trains on the prefix's output. An entry is two files, ``KEY.f32`` and ``KEY.json``
with its shape; the second is written last, so an entry without it was never finished. Its key is
made of the prefix's own weights: the next task that is added finds it.
"""

from __future__ import annotations

import hashlib
import json
import os
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
    """
    if prefix_end(network) == 0:
        return PixelFeatures(network, pixels, flip, own)
    stem = folder / _key(network, source, flip, own)
    values, about = stem.with_suffix(".f32"), stem.with_suffix(".json")
    if not about.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _write(values, about, _computed(network, pixels, flip, own, advance))
    shape = tuple(json.loads(about.read_text(encoding="utf-8"))["shape"])
    if not shape[0]:  # an empty file cannot be mapped
        return MappedFeatures(np.empty(shape, np.float32))
    return MappedFeatures(np.memmap(values, dtype=np.float32, mode="r", shape=shape))


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


def _write(values: Path, about: Path, blocks: Iterator[NDArray[np.float32]]) -> None:
    # Named by process, so that two runs that need the same entry do not write into one file.
    staging = values.with_suffix(f".{os.getpid()}.part")
    images, inner = 0, ()
    try:
        with staging.open("wb") as file:
            for block in blocks:
                file.write(block.tobytes())
                images, inner = images + len(block), block.shape[1:]
        staging.replace(values)
    finally:
        staging.unlink(missing_ok=True)
    staging.write_text(json.dumps({"shape": [images, *inner]}), encoding="utf-8")
    staging.replace(about)
