"""Tower networks and their trainers, as tiny as the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model.baselines.towers import TowerNetwork
from model.families import build_towers
from model.tasks import Task
from tests.training.conftest import TASKS, tiny, tiny_images
from training.config import TrainSettings
from training.evidence import start_config
from training.state import StateFile
from training.trainer import Trainer

ALONE = {"family": "single_task", "routed_layers": "none", "keep": 1.0, "sampler": "all"}
STITCHED = ALONE | {"family": "cross_stitch", "shared_start": 0.5}


def tiny_towers(settings: TrainSettings, tasks: tuple[Task, ...] = TASKS) -> TowerNetwork:
    config = settings.network(tasks, settings.preprocess())
    return build_towers(start_config(settings, config), settings.seed)


def tower_trainer(folder: Path, **changes: Any) -> Trainer:
    settings = tiny(**changes)
    data = {"source": "tiny", "digest": "sha256:0"}
    return Trainer(tiny_towers(settings), settings, tiny_images(), StateFile(folder), data)
