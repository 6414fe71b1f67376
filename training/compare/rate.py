"""How many epochs fit a time budget, so that a schedule can be planned before the run.

A time limit shortens a run that is too long, but lengthens none. The planned steps therefore have
to be more than the budget allows, and not many times more: the limit is looked at after a twentieth
of them (:mod:`training.budget`), while the learning rate still follows the longer plan.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from model.families import build
from model.tasks import TaskSet
from training.augmentation import augment
from training.config import TrainSettings
from training.optimisation import make_optimiser
from training.samplers import make_sampler, step_generator
from training.steps import step_loss

_PLANNED = 2.0
"""Steps planned per step that is expected to fit."""
_MEASURED_SHARE = 0.02
"""Of the budget, spent on measuring beforehand."""
_MIN_STEPS, _MAX_STEPS = 2, 20

Clock = Callable[[], float]


def budget_clock(device: str) -> Clock:
    """Of a run whose time is its budget: what the process computes, not how long it waits.

    Processor seconds of all its threads together: with one thread that is the time on the clock
    of a machine with nothing else to do, whatever else runs or whoever stops the process. What a
    GPU does is not in them, so there it is the time on the clock.
    """
    return time.process_time if torch.device(device).type == "cpu" else time.monotonic


def planned_epochs(settings: TrainSettings, tasks: TaskSet, images: int, clock: Clock) -> float:
    """Epochs that take longer than ``settings.time_limit_s``, by about the factor 2.

    Measured on steps of noise, of every kind that the run has.

    Args:
        images: of the training split.
    """
    seconds = min(
        _seconds_per_step(kind, tasks, images, settings.time_limit_s * _MEASURED_SHARE, clock)
        for kind in _kinds(settings)
    )
    steps = math.ceil(_PLANNED * settings.time_limit_s / seconds)
    return max(1, steps) / make_sampler(settings, images, len(tasks)).steps_per_epoch


def _kinds(settings: TrainSettings) -> Iterator[TrainSettings]:
    """Settings of one kind of step each: with and without the run's routes, or stitches."""
    if settings.family == "cross_stitch":
        yield settings
        if settings.shared_start:
            yield settings.model_copy(update={"family": "single_task", "sampler": "all"})
        return
    if settings.scheme != "saliency":
        yield settings
        return
    yield settings.model_copy(update={"scheme": "independent"})
    if settings.shared_start:
        yield settings.model_copy(
            update={"scheme": "independent", "routed_layers": "none", "sampler": "all"}
            | ({} if isinstance(settings.keep, float) else {"keep": 1.0})
        )


def _seconds_per_step(
    settings: TrainSettings, tasks: TaskSet, images: int, limit_s: float, clock: Clock
) -> float:
    device = torch.device(settings.device)
    network = build(settings.network(tuple(tasks), settings.preprocess()), settings.seed)
    network.to(device).train()
    optimiser = make_optimiser(network, settings)
    sampler = make_sampler(settings, images, len(tasks))
    shape = (sampler.batch_size, *settings.image_size, 3)
    noise = np.random.default_rng(settings.seed).integers(0, 256, shape, dtype=np.uint8)

    def step(number: int) -> None:
        batch = sampler.batch(number)
        pixels = torch.from_numpy(noise).to(device)
        pixels = augment(pixels, settings, step_generator(settings.seed, number))
        labels = torch.zeros(len(noise), len(batch.tasks), dtype=torch.int64, device=device)
        loss = step_loss(
            network, pixels, labels, batch.tasks, settings.compute, precision=settings.precision
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        loss.item()  # a device is waited for, as in training
        optimiser.step()

    step(0)  # slow: everything is allocated
    started, done = clock(), 0
    while done < _MIN_STEPS or (clock() - started < limit_s and done < _MAX_STEPS):
        done += 1
        step(done)
    return max((clock() - started) / done, 1e-9)
