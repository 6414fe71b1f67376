"""A small pack of squares, a model of it, and what to ask of a refresh."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from tests.training.conftest import tiny, tiny_images
from training.decoding import Decoder
from training.pixel_cache import PixelCache
from training.refresh.refresh import Refreshed, RefreshRequest, refresh
from training.run import TrainRequest, train

QUICK = {"sampler": "all", "batch_size": 16, "routed_layers": "last:1"}
TASKS = ["bright", "shade::light", "left"]


def write_pack(path: Path, *, count: int = 320, seed: int = 0, shuffled: bool = False) -> str:
    """Half for training, a quarter each for validation and test; with labels of other images."""
    images = tiny_images(count, seed)
    attr = (images.labels > 0).astype(np.uint8)
    attr[:, 1] = images.labels[:, 1] == 2
    if shuffled:
        attr = np.random.default_rng(seed).permutation(attr)
    split = np.array(["train", "val", "train", "test"] * (count // 4))
    np.savez(path, images=images.pixels, attr=attr, attr_names=np.array(TASKS), split=split)
    return f"pack:{path}"


def publish_first(root: Path, source: str, **changes: Any) -> None:
    """Version 1, hardly trained."""
    settings = tiny(**(QUICK | {"epochs": 0.3} | changes))
    decoder = Decoder(PixelCache(root / "cache"))
    request = TrainRequest(source, root / "models", "m", settings, decoder=decoder)
    train(request, Console(file=io.StringIO()))


def refreshed(root: Path, source: str, **changes: Any) -> tuple[Refreshed, str]:
    """One refresh, and what it said."""
    own = {name: changes.pop(name) for name in ("resume", "restart", "gate") if name in changes}
    out = io.StringIO()
    request = RefreshRequest(
        source,
        root / "models",
        "m",
        flags={"epochs": 3} | changes,
        decoder=Decoder(PixelCache(root / "cache")),
        **own,
    )
    return refresh(request, Console(file=out, width=200)), out.getvalue()
