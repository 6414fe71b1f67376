"""How a task is added: its route, its statistics, and how its head is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from training.calibration import Method
from training.errors import SettingsError
from training.thresholds import Objective

LIKE = "like:"
Statistics = Literal["own", "like"]


@dataclass(frozen=True)
class AddSettings:
    """What belongs to the new tasks; everything else is the parent's, and frozen."""

    route: str = "saliency"
    """saliency: the units that the new task depends on most; random; or like:TASK, the route of a
    task that the model has."""
    statistics: Statistics | None = None
    """Batch-norm statistics, where the model keeps them per task, and modulation, where it has
    one: measured and learned on the new task's images (own), or those of the task whose route it
    takes (like). None: like where there is one, since the new task then has no weights but its
    head's. The compiled kernels still run the other's own layers for each of the two; without them
    subnet runs them once."""
    keep: float | None = None
    """Share of a routed layer's units; None: as many as the model's tasks have on average."""
    epochs: int = 40
    modulation_epochs: int = 5
    """Of the modulation and the head together, through the routed layers."""
    batch_size: int = 256
    lr: float = 3e-3
    flip: bool = False
    """Train on mirrored images as well."""
    statistics_batches: int = 32
    saliency_images: int = 2048
    calibration: Method = "none"
    threshold_objective: Objective = "balanced_accuracy"
    resamples: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if self.route not in ("saliency", "random") and not self.like:
            raise SettingsError(
                f"--route is {self.route!r}; it takes saliency, random, or {LIKE}TASK with the "
                "name of a task that the model has"
            )
        if self.statistics == "like" and not self.like:
            raise SettingsError(
                f"--statistics like means those of the task whose route is taken: it needs --route "
                f"{LIKE}TASK, and the route is {self.route!r}"
            )
        if self.keep is not None and (self.like or not 0 < self.keep <= 1):
            problem = f"the route is that of {self.like!r}" if self.like else "above 0, at most 1"
            raise SettingsError(f"--keep is {self.keep}: {problem}")

    @property
    def like(self) -> str:
        """The task whose route is taken; empty where there is none."""
        return self.route.removeprefix(LIKE) if self.route.startswith(LIKE) else ""

    @property
    def own_statistics(self) -> bool:
        return self.statistics == "own" or (self.statistics is None and not self.like)
