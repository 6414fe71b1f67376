"""The training loop: Algorithm 1 of the paper, with other samplers, at subnet cost, resumable."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from model.task_network import TaskNetwork
from training.augmentation import augment
from training.balance import LabelBalance
from training.config import TrainSettings
from training.curves import Curves
from training.decoding import ImageSet
from training.distributed import Processes
from training.divergence import check_finite
from training.domain_sampler import check_domain_steps
from training.domains import find_domains
from training.ema import AveragedWeights
from training.errors import RunInterruptedError
from training.interruption import StopRequest
from training.losses import loss_shape
from training.optimisation import clip_gradients, make_optimiser, set_learning_rate
from training.phases import Phases
from training.progress import ProgressDisplay
from training.samplers import Batch, Sampler, step_generator
from training.stages import begin_stage, follow_routes, make_room
from training.state import RunState, StateFile
from training.steps import step_loss
from training.synchronised_norm import one_batch

_SMOOTHING = 0.95
"""Of the loss that is displayed."""


@dataclass
class Trainer:
    """One run over one training set; resumable after any step.

    Everything random in a step follows from (seed, step), so a run interrupted and resumed gives
    the very weights of one that was not. Where routes are chosen, between two steps, the state is
    saved before and after.
    """

    network: TaskNetwork
    """Of :func:`training.evidence.start_config`; changed in place where a stage of the run begins
    (:mod:`training.stages`)."""
    settings: TrainSettings
    images: ImageSet
    state_file: StateFile
    data: dict[str, str]
    """What the run is about, stored in its state: source and digest."""
    clock: Callable[[], float] = time.monotonic
    stop: StopRequest = field(default_factory=StopRequest)
    processes: Processes = field(default_factory=Processes)
    """Those that share every batch; all of them run the same trainer."""
    curves: Curves | None = None
    start_file: StateFile | None = None
    """Where the state in front of the first routes is kept, for runs that differ in routes only."""
    step: int = 0
    elapsed_s: float = 0.0

    def __post_init__(self) -> None:
        self.device = self.processes.device(self.settings.device)
        self.network.to(self.device)
        by_domain = self.settings.sampler == "domains"
        domains = find_domains(self.images.labels) if by_domain else None
        if by_domain:
            check_domain_steps(self.network, self.settings, self.processes.count)
        self.phases = Phases(self.settings, len(self.images), len(self.network.tasks), domains)
        self.loss_shape = loss_shape(self.settings, self.images.labels, self.device)
        self._start_optimiser()

    def _start_optimiser(self) -> None:
        """For the parameters that there are: routes may come with a modulation."""
        self.optimiser = make_optimiser(self.network, self.settings)
        decay = self.settings.ema_decay
        self.averaged = AveragedWeights(self.network, decay) if decay else None

    @property
    def sampler(self) -> Sampler:
        """Of the present phase."""
        return self.phases.current.sampler

    def resume(self) -> None:
        """Continue from the saved state; StateError where there is none that fits."""
        with self.processes.file_from_main(self.state_file.path) as path:
            state_file = StateFile(path.parent)
            state = state_file.peek()
            self.phases.restore(state.phases or {"steps": [state.total_steps]})
            if self.phases.stage:
                make_room(self.network, self.settings)
                self._start_optimiser()
            state_file.load(self.network, self.optimiser, self.averaged)
        if self.phases.stage:
            follow_routes(self.network, self.settings)
        self.step, self.elapsed_s = state.step, state.elapsed_s

    def save(self, file: StateFile | None = None) -> None:
        """Write the state to resume from (or to ``file``); the main process alone does."""
        if not self.processes.main:
            return
        state = RunState(
            step=self.step,
            total_steps=self.phases.total_steps,
            elapsed_s=self.elapsed_s,
            settings=self.settings.model_dump(mode="json"),
            data=self.data,
            phases=self.phases.state(),
        )
        (file or self.state_file).save(state, self.network, self.optimiser, self.averaged)

    def fit(self, progress: ProgressDisplay) -> None:
        """Train to the end of the run, saving the state now and then and at the end.

        Raises:
            RunInterruptedError: a signal asked to stop; the state is saved.
            DivergedError: the loss or a gradient is not a number; names the batch, and the last
                saved state is from before.
            ProcessLostError: another process ended.
        """
        self.processes.copy_network(self.network)
        self.network.train()
        saved = started = self.clock() - self.elapsed_s
        shown: float | None = None
        with self.stop, progress:
            while self.phases.go_on(self.step, self.elapsed_s):
                self._enter_stage(self.phases.stage_of(self.step), started, progress)
                loss = self._train_step(self.batch(self.step))
                self.step += 1
                self.elapsed_s = self.clock() - started
                shown = loss if shown is None else _SMOOTHING * shown + (1 - _SMOOTHING) * loss
                progress.update(self.step, self.phases.total_steps, self._note(shown))
                started += self._draw(loss)
                self.elapsed_s, stop = self.processes.agree(self.elapsed_s, self.stop.requested)
                if stop:
                    self.save()
                    raise self._interrupted()
                if self.elapsed_s - (saved - started) > self.settings.checkpoint_interval_s:
                    self.save()
                    saved = self.clock()
            # A time limit may have left no step for the last stage, but its routes are promised.
            self._enter_stage(self.phases.last_stage, started, progress)
        self.save()

    def _enter_stage(self, stage: int, started: float, progress: ProgressDisplay) -> None:
        """Begin ``stage``, unless that is done; to be interrupted at any moment."""
        if stage == self.phases.stage:
            return
        self.save()
        if self.start_file is not None and self.phases.stage == 0:
            self.save(self.start_file)

        def advance(what: str, done: int, total: int) -> None:
            note = f"{what}: {done} of {total}"
            progress.update(self.step, self.phases.total_steps, note)
            if self.stop.requested:
                raise self._interrupted()  # what was saved is from before this stage

        begin_stage(
            self.network, self.settings, self.images, stage / self.phases.last_stage, advance
        )
        if self.processes.count > 1:  # other machines may round otherwise, and choose otherwise
            self.processes.copy_network(self.network)
            follow_routes(self.network, self.settings)
        self.network.train()
        # Gradients and weights of before say little about a network with other routes.
        self._start_optimiser()
        self.phases.stage = stage
        self.elapsed_s, _ = self.processes.agree(self.clock() - started, False)
        self.save()

    def _interrupted(self) -> RunInterruptedError:
        return RunInterruptedError(
            f"interrupted after step {self.step} of {self.phases.total_steps}; the same command "
            "with --resume goes on from there"
        )

    def batch(self, step: int) -> Batch:
        """Images and tasks of step ``step``, counted from 0."""
        batch = self.sampler.batch(step)
        if self.settings.label_balance and not self.sampler.every_task:
            batch = LabelBalance(self.images.labels, self.settings.seed).redraw(batch, step)
        return batch

    def _train_step(self, batch: Batch) -> float:
        part = self.processes.part(len(batch.images))
        images = torch.from_numpy(self.images.pixels[batch.images[part.rows]]).to(self.device)
        draw = step_generator(self.settings.seed, self.step)
        images = augment(images, self.settings, draw, part)
        labels = self.images.labels[batch.images][:, list(batch.tasks)].astype(np.int64)
        set_learning_rate(self.optimiser, self.phases.learning_rate(self.step))
        with one_batch(self.network, self.processes):
            loss = step_loss(
                self.network,
                images,
                torch.from_numpy(labels[part.rows]).to(self.device),
                batch.tasks,
                self.phases.current.compute,
                self.loss_shape,
                self.settings.precision,
                labelled_only=batch.labelled_only,
            )
        loss = loss * self.processes.weight(labels, part)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        total = self.processes.add_gradients(self.optimiser, loss.detach())
        norm = clip_gradients(self.optimiser, self.settings.max_grad_norm)
        # One transfer for both: a device stands still meanwhile.
        value, gradient_norm = torch.stack([total, norm.to(total)]).tolist()
        names = self.network.tasks.names
        check_finite(value, gradient_norm, self.step, batch, names, self.settings)
        self.optimiser.step()
        if self.averaged is not None:
            self.averaged.update(self.network, self.step)
        return float(value)

    def _draw(self, loss: float) -> float:
        """Seconds that it took, which are no time of training."""
        if self.curves is None:
            return 0.0
        began = self.clock()
        rate = self.optimiser.param_groups[0]["lr"]
        self.curves.step(self.step, loss, rate, self._images_per_s)
        if self.step % self.sampler.steps_per_epoch == 0:
            self.curves.epoch(self.network, self.step)
        return self.clock() - began

    @property
    def _images_per_s(self) -> float:
        return self.step * self.sampler.batch_size / self.elapsed_s if self.elapsed_s else 0.0

    def _note(self, loss: float) -> str:
        return f"loss {loss:.4f}, {self._images_per_s:.0f} images/s"
