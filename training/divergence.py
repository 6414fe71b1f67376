"""What stops a run whose numbers stopped being numbers, and how it tells which batch did it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from training.config import TrainSettings
from training.errors import DivergedError
from training.samplers import Batch

_NAMED = 16
"""Tasks and images in the message; all of them are in the error's details."""


def check_finite(
    loss: float,
    gradient_norm: float,
    step: int,
    batch: Batch,
    task_names: Sequence[str],
    settings: TrainSettings,
) -> None:
    """To be called before the weights change, so that what is saved stays good.

    Args:
        task_names: of all tasks of the network.

    Raises:
        DivergedError: the loss or the norm of all gradients is infinite or not a number; with the
            step, the batch's tasks and the positions of its images among the training images.
    """
    if math.isfinite(loss) and math.isfinite(gradient_norm):
        return
    what, value = ("loss", loss) if not math.isfinite(loss) else ("gradient norm", gradient_norm)
    tasks = [task_names[task] for task in batch.tasks]
    images = batch.images.tolist()
    clip = (
        f", set max_grad_norm (now {settings.max_grad_norm:g})"
        if math.isfinite(loss) or not settings.max_grad_norm
        else ""
    )
    raise DivergedError(
        f"the {what} is {value} at step {step} (loss {loss}; tasks {_some(tasks)}; training images "
        f"at positions {_some(images)}); lower lr (now {settings.lr:g}){clip} or raise batch_size "
        f"(now {settings.batch_size}). The weights of this step are not saved",
        step=step,
        loss=str(loss),
        gradient_norm=str(gradient_norm),
        tasks=tasks,
        images=images,
    )


def _some(values: Sequence[object]) -> str:
    shown = ", ".join(map(str, values[:_NAMED]))
    return f"{shown} and {len(values) - _NAMED} more" if len(values) > _NAMED else shown
