"""What a new version may be worse by before it is refused."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

# Settings of a training run that belong to the machine or to one run, not to the recipe.
NOT_INHERITED = frozenset(
    {"init_from", "tasks", "device", "threads", "checkpoint_interval_s", "tensorboard_dir"}
)


class GateSettings(BaseModel):
    """The gate's limits. Differences are of held-out figures, new minus old, on the same images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_macro_drop: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="average precision may fall by so much in the mean over all tasks",
    )
    max_task_drop: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="average precision of any task may fall by so much; by more where the 95 % "
        "interval of its difference reaches back to that",
    )
    max_ece_rise: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="calibration error (ECE) may rise by so much in the mean over all tasks",
    )
    max_task_ece_rise: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="calibration error of any task may rise by so much; by more where the 95 % "
        "interval of its difference reaches back to that",
    )
    max_published_drop: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="AUROC, in the mean over all tasks, may be so much below what the old version "
        "was published with: both fail alike on data whose labels are wrong",
    )
    max_self_check_error: float = Field(
        default=1e-4,
        gt=0,
        le=1,
        description="a probability of the cut network may differ by so much from the masked one's",
    )
    gate_resamples: int = Field(
        default=500, ge=50, description="resamples of the held-out images for the intervals"
    )
