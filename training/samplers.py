"""Which images and which tasks each training step sees.

A sampler is a function of the step's number and a seed, with no state between steps, so a resumed
run continues exactly where it was interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from training.config import TrainSettings
from training.errors import DataError, SettingsError

# Streams of random numbers that must not repeat each other.
_IMAGES, _TASKS, _AUGMENTATION = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Batch:
    """Image positions and task indices of one step; every image is trained on every task here."""

    images: NDArray[np.int64]  # [N]
    tasks: tuple[int, ...]
    labelled_only: bool = False
    """Every image is asked only the tasks that it has labels of."""


class TaskDraw(Protocol):
    """The tasks of every step of one epoch."""

    def __call__(self, steps: int, generator: np.random.Generator) -> Sequence[tuple[int, ...]]: ...


class Sampler:
    """Shuffled mini-batches of images, each with tasks drawn by ``draw``."""

    def __init__(self, images: int, batch_size: int, draw: TaskDraw, seed: int) -> None:
        """Raises DataError for fewer than two images: batch norm needs a pair."""
        if images < 2:
            raise DataError(f"{images} readable training images; training needs at least two")
        self._images = images
        self._batch_size = min(batch_size, images)
        self._draw = draw
        self._seed = seed
        self._epoch = lru_cache(maxsize=1)(self._draw_epoch)

    @property
    def steps_per_epoch(self) -> int:
        """Whole mini-batches only: the images left over come first in no epoch in particular."""
        return self._images // self._batch_size

    @property
    def batch_size(self) -> int:
        return self._batch_size

    @property
    def every_task(self) -> bool:
        """Whether every step has all tasks, so that its images cannot suit any one of them."""
        return isinstance(self._draw, AllDraw)

    def batch(self, step: int) -> Batch:
        """Step ``step`` of the run, counted from 0."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order, tasks = self._epoch(epoch)
        start = position * self._batch_size
        return Batch(order[start : start + self._batch_size], tasks[position])

    def _draw_epoch(self, epoch: int) -> tuple[NDArray[np.int64], Sequence[tuple[int, ...]]]:
        order = image_order(self._images, self._seed, epoch)
        generator = np.random.default_rng([self._seed, _TASKS, epoch])
        return order, self._draw(self.steps_per_epoch, generator)


@dataclass(frozen=True)
class PaperDraw:
    """Algorithm 1: ``per_step`` tasks drawn uniformly for each mini-batch."""

    tasks: int
    per_step: int

    def __call__(self, steps: int, generator: np.random.Generator) -> Sequence[tuple[int, ...]]:
        count = min(self.per_step, self.tasks)
        return [
            tuple(generator.choice(self.tasks, size=count, replace=False).tolist())
            for _ in range(steps)
        ]


@dataclass(frozen=True)
class CoveringDraw:
    """Shuffled tasks without replacement, dealt round and round: equally often, to within one.

    Where an epoch has too few steps to deal every task once, each step gets more tasks.
    """

    tasks: int
    per_step: int

    def __call__(self, steps: int, generator: np.random.Generator) -> Sequence[tuple[int, ...]]:
        count = min(self.tasks, max(self.per_step, math.ceil(self.tasks / steps)))
        deck: list[int] = []
        dealt = []
        for _ in range(steps):
            hand = deck[:count]
            deck = deck[count:]
            if len(hand) < count:
                fresh: list[int] = generator.permutation(self.tasks).tolist()
                # A task already in this hand goes last, so that no step has it twice.
                fresh = [t for t in fresh if t not in hand] + [t for t in fresh if t in hand]
                wanted = count - len(hand)
                hand, deck = hand + fresh[:wanted], fresh[wanted:]
            dealt.append(tuple(hand))
        return dealt


@dataclass(frozen=True)
class AllDraw:
    """Every task in every step."""

    tasks: int

    def __call__(self, steps: int, generator: np.random.Generator) -> Sequence[tuple[int, ...]]:
        return [tuple(range(self.tasks))] * steps


def image_order(images: int, seed: int, *which: int) -> NDArray[np.int64]:
    """A permutation of ``images`` positions: that of an epoch, or of a domain's round."""
    return np.random.default_rng([seed, _IMAGES, *which]).permutation(images)


def step_generator(seed: int, step: int) -> torch.Generator:
    """For what else is drawn in one step: augmentation."""
    draw = np.random.default_rng([seed, _AUGMENTATION, step]).integers(2**62)
    return torch.Generator().manual_seed(int(draw))


def make_sampler(settings: TrainSettings, images: int, tasks: int) -> Sampler:
    """The sampler that ``settings.sampler`` names.

    Raises:
        SettingsError: one that needs the images' labels too (:mod:`training.domain_sampler`).
    """
    draws: dict[str, TaskDraw] = {
        "paper": PaperDraw(tasks, settings.tasks_per_step),
        "covering": CoveringDraw(tasks, settings.tasks_per_step),
        "all": AllDraw(tasks),
    }
    if settings.sampler not in draws:
        raise SettingsError(
            f"setting 'sampler' is {settings.sampler!r}, which is for `train` and `refresh` alone; "
            f"here it may be {', '.join(draws)}"
        )
    return Sampler(images, settings.batch_size, draws[settings.sampler], settings.seed)
