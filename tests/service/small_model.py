"""A small model, for tests with a real network."""

from __future__ import annotations

from pathlib import Path

import torch

from model.config import BackboneConfig, ModelConfig, PreprocessConfig, RoutingConfig
from model.network import build
from model.repository import Repository
from model.tasks import Calibration, Task

TASKS = (
    *(Task(name=f"t{index}", group="even" if index % 2 == 0 else "odd") for index in range(10)),
    Task(name="shoe", group="wear", threshold=0.4, calibrated=True,
         calibration=Calibration(method="platt", scale=1.3, shift=0.2)),
    Task(name="kind", group="kinds", classes=("boot", "coat", "bag", "shirt")),
)  # fmt: skip


def publish_small(root: Path, arch: str = "vgg11_bn") -> None:
    """Version 1 of the model ``small``: twelve tasks, 28 px."""
    config = ModelConfig(
        backbone=BackboneConfig(arch=arch, width=0.125),
        routing=RoutingConfig(keep=0.5, routed_layers="last:2"),
        preprocess=PreprocessConfig(height=28, width=28),
        tasks=TASKS,
    )
    network = build(config, seed=3)
    with torch.no_grad():  # answers that differ from image to image by more than rounding
        for parameter in network.heads.parameters():
            parameter.mul_(20)
    Repository(root).publish("small", network, {"macro": {"accuracy": 0.5}}, "# small\n")
