"""Every backbone with every kind of routing: trained on the built-in data, published, served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from model.repository import Repository
from model.rows import RowBatch
from model.strategies import MaskedForward, Strategy
from model.tasks import Task
from service.core.holder import ModelHolder
from service.core.loader import RepositorySources
from service.core.run_options import RunOptions
from tests.model.test_strategies import TOLERANCE, largest_difference
from tests.training.conftest import tiny, tiny_network
from tests.training.test_trainer import Quiet
from training.decoding import Decoder, ImageSet
from training.preparation import decode_split
from training.sources import SourceOptions, open_source
from training.state import StateFile
from training.trainer import Trainer

OWN = {"norm": "batch_per_domain"}
BACKBONES: Mapping[str, dict[str, Any]] = {
    "vgg11_bn": {"arch": "vgg11_bn", "width": 0.125},
    "small_cnn_bn": {"arch": "small_cnn_bn", "width": 0.25},
    "resnet18": {"arch": "resnet18", "width": 0.125},
    # With the standard stem its last maps are one pixel, whose batch norm magnifies rounding.
    "resnet50": {"arch": "resnet50", "width": 0.125, "stem": "small"},
    "series adapters": {"arch": "resnet26", "width": 0.25, "adapters": "series", **OWN},
    "parallel adapters": {"arch": "resnet26", "width": 0.25, "adapters": "parallel", **OWN},
}
ROUTING: Mapping[str, dict[str, Any]] = {
    "binary": {"keep": 0.5},
    "late": {"keep": 0.5, "routed_layers": "last:2"},
    "scale": {"keep": 1.0, "modulation": "scale"},
    "binary and film": {"keep": 0.5, "modulation": "scale_shift"},
    "hard sharing": {"routed_layers": "none"},
    "disjoint": {"scheme": "partition", "keep": 0.0},
    "tree": {"scheme": "tree", "group_layers": 2},
    "falling": {"keep": 0.25, "keep_schedule": "falling"},
    "saliency": {"scheme": "saliency", "saliency_images": 16, "shared_start": 0.5},
}
FAST = {
    ("resnet18", "binary and film"), ("resnet18", "late"), ("resnet18", "saliency"),
    ("series adapters", "binary"), ("parallel adapters", "hard sharing"),
    ("resnet50", "falling"), ("small_cnn_bn", "tree"),
}  # fmt: skip
CASES = [
    pytest.param(backbone, kind, marks=[] if (backbone, kind) in FAST else pytest.mark.slow)
    for backbone in BACKBONES
    for kind in ROUTING
]


@cache
def builtin() -> tuple[tuple[Task, ...], ImageSet]:
    """48 pictures and three tasks in two groups."""
    dataset = open_source("builtin:fashion", SourceOptions(0)).with_tasks(
        ["footwear", "worn_on", "legs"]
    )
    few = np.zeros(len(dataset.split), dtype=bool)
    few[dataset.indices("train")[:: len(dataset.indices("train")) // 47]] = True
    dataset = replace(dataset, split=np.where(few, "train", ""))
    images = decode_split(Decoder(), dataset, "train", tiny().preprocess(), Console(quiet=True))
    return tuple(dataset.tasks), images


@pytest.mark.parametrize(("backbone", "kind"), CASES)
def test_what_is_trained_and_published_is_served_alike(
    tmp_path: Path, backbone: str, kind: str
) -> None:
    tasks, images = builtin()
    settings = tiny(
        **BACKBONES[backbone] | ROUTING[kind], sampler="all", epochs=1, batch_size=16, lr=0.01
    )
    network = tiny_network(settings, tasks)
    before = network.heads.weight.detach().clone()
    run = Trainer(network, settings, images, StateFile(tmp_path / "state"), {
        "source": "builtin:fashion", "digest": "sha256:0",
    })  # fmt: skip
    run.fit(Quiet())
    assert not torch.equal(network.heads.weight, before)
    figures: dict[str, Any] = {"tasks": {}, "macro": {}}
    Repository(tmp_path).publish("m", network.eval(), figures, "# m\n")

    pixels = torch.from_numpy(images.pixels[:3])
    batch = RowBatch.all_pairs(pixels, range(len(tasks)))
    reference = MaskedForward(network, torch.device("cpu"))(batch)
    strategies: tuple[Strategy, ...] = ("subnet", "mixed")
    for strategy in strategies:
        holder, source = ModelHolder("m"), RepositorySources(tmp_path, RunOptions(strategy)).of("m")
        holder.serve(source.load(source.published()))
        found = holder.current().forward(batch)
        assert largest_difference(network, batch, reference, found) <= TOLERANCE, strategy
