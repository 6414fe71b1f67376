"""What answers requests: one loaded model version, immutable and swapped whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from model.auto_forward import AutoForward, Measurement
from model.config import ModelConfig
from model.forward import Forward
from model.tasks import TaskSet
from service.core.decisions import DecisionTable
from service.core.run_options import Precision


@dataclass(frozen=True, eq=False)
class ServedModel:
    """One version of one model, ready to run. Travels with every row, so that a batch never mixes
    two.

    ``forward`` belongs to the engine thread; everything else may be read from anywhere.
    """

    name: str
    version: int
    digest: str  # of the bundle, "sha256:..."
    config: ModelConfig
    forward: Forward
    device: str
    loaded_at: float  # seconds since the epoch
    load_seconds: float
    created_at: float = math.nan  # of the bundle, seconds since the epoch; NaN: not known
    precision: Precision = "float32"
    precision_error: float = 0.0  # largest |dp| of sample rows against masked float32, at load
    parameters: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)  # held-out figures from the bundle
    tasks: TaskSet = field(init=False)
    decisions: DecisionTable = field(init=False)
    image_bytes: int = field(init=False)  # of one decoded image
    max_outputs: int = field(init=False)  # columns of its logits

    def __post_init__(self) -> None:
        tasks, spec = self.config.task_set, self.config.preprocess
        object.__setattr__(self, "tasks", tasks)
        object.__setattr__(self, "decisions", DecisionTable(tasks))
        object.__setattr__(self, "image_bytes", spec.height * spec.width * 3)
        object.__setattr__(self, "max_outputs", tasks.max_outputs)

    @property
    def strategy(self) -> str:
        """The way its batches are run now."""
        return self.forward.name

    @property
    def kernels(self) -> str:
        """What runs its convolutions."""
        return self.forward.kernels

    @property
    def measured(self) -> Measurement | None:
        """What its strategy was chosen by; None where a setting says which."""
        return self.forward.measured if isinstance(self.forward, AutoForward) else None
