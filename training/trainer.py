"""The training loop: Algorithm 1 of the paper, with other samplers, at subnet cost, resumable."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from model.network import RoutedNetwork
from training.augmentation import random_flip
from training.budget import Budget
from training.config import TrainSettings
from training.decoding import ImageSet
from training.divergence import check_finite
from training.ema import AveragedWeights
from training.errors import RunInterruptedError
from training.interruption import StopRequest
from training.losses import loss_shape
from training.optimisation import (
    clip_gradients,
    learning_rate,
    make_optimiser,
    set_learning_rate,
)
from training.progress import ProgressDisplay
from training.samplers import Batch, make_sampler, step_generator
from training.state import RunState, StateFile
from training.steps import step_loss

_SMOOTHING = 0.95
"""Of the loss that is displayed."""


@dataclass
class Trainer:
    """One run over one training set; resumable after any step.

    Everything random in a step follows from (seed, step), so a run interrupted and resumed gives
    the very weights of one that was not.
    """

    network: RoutedNetwork
    settings: TrainSettings
    images: ImageSet
    state_file: StateFile
    data: dict[str, str]
    """What the run is about, stored in its state: source and digest."""
    clock: Callable[[], float] = time.monotonic
    stop: StopRequest = field(default_factory=StopRequest)
    step: int = 0
    elapsed_s: float = 0.0

    def __post_init__(self) -> None:
        self.device = torch.device(self.settings.device)
        self.network.to(self.device)
        self.sampler = make_sampler(self.settings, len(self.images), len(self.network.tasks))
        self.loss_shape = loss_shape(self.settings, self.images.labels, self.device)
        self.optimiser = make_optimiser(self.network, self.settings)
        decay = self.settings.ema_decay
        self.averaged = AveragedWeights(self.network, decay) if decay else None
        planned = max(1, round(self.settings.epochs * self.sampler.steps_per_epoch))
        self.budget = Budget(planned, self.settings.time_limit_s)

    def resume(self) -> None:
        """Continue from the saved state; StateError where there is none that fits."""
        state = self.state_file.load(self.network, self.optimiser, self.averaged)
        self.step, self.elapsed_s = state.step, state.elapsed_s
        self.budget.total_steps = min(self.budget.total_steps, state.total_steps)

    def save(self) -> None:
        """Write the state to resume from."""
        state = RunState(
            step=self.step,
            total_steps=self.budget.total_steps,
            elapsed_s=self.elapsed_s,
            settings=self.settings.model_dump(mode="json"),
            data=self.data,
        )
        self.state_file.save(state, self.network, self.optimiser, self.averaged)

    def fit(self, progress: ProgressDisplay) -> None:
        """Train to the end of the run, saving the state now and then and at the end.

        Raises:
            RunInterruptedError: a signal asked to stop; the state is saved.
            DivergedError: the loss or a gradient is not a number; names the batch, and the last
                saved state is from before.
        """
        self.network.train()
        saved = started = self.clock() - self.elapsed_s
        shown: float | None = None
        with self.stop, progress:
            while self.step < self.budget.fit(self.step, self.elapsed_s):
                loss = self._train_step(self.sampler.batch(self.step))
                self.step += 1
                self.elapsed_s = self.clock() - started
                shown = loss if shown is None else _SMOOTHING * shown + (1 - _SMOOTHING) * loss
                progress.update(self.step, self.budget.total_steps, self._note(shown))
                if self.stop.requested:
                    self.save()
                    raise RunInterruptedError(
                        f"interrupted after step {self.step} of {self.budget.total_steps}; the "
                        "same command with --resume goes on from there"
                    )
                if self.elapsed_s - (saved - started) > self.settings.checkpoint_interval_s:
                    self.save()
                    saved = self.clock()
        self.save()

    def _train_step(self, batch: Batch) -> float:
        images = torch.from_numpy(self.images.pixels[batch.images]).to(self.device)
        if self.settings.flip:
            images = random_flip(images, step_generator(self.settings.seed, self.step))
        labels = self.images.labels[batch.images][:, list(batch.tasks)].astype(np.int64)
        set_learning_rate(
            self.optimiser,
            learning_rate(self.settings, self.step / self.budget.total_steps),
        )
        loss = step_loss(
            self.network,
            images,
            torch.from_numpy(labels).to(self.device),
            batch.tasks,
            self.settings.compute,
            self.loss_shape,
        )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = clip_gradients(self.optimiser, self.settings.max_grad_norm)
        # One transfer for both: a device stands still meanwhile.
        value, gradient_norm = torch.stack([loss.detach(), norm.to(loss)]).tolist()
        names = self.network.tasks.names
        check_finite(value, gradient_norm, self.step, batch, names, self.settings)
        self.optimiser.step()
        if self.averaged is not None:
            self.averaged.update(self.network, self.step)
        return float(value)

    def _note(self, loss: float) -> str:
        rate = self.step * self.sampler.batch_size / self.elapsed_s if self.elapsed_s else 0.0
        return f"loss {loss:.4f}, {rate:.0f} images/s"
