"""The phases of a run: what a step does, how many there are, and when routes are chosen.

A run whose routes are drawn has one phase. One whose routes come from evidence (scheme "saliency")
has two: every label of every image without routing, then the settings' own sampler within routes,
which are chosen in one or more stages. So has one of cross-stitch networks: towers each for itself,
then stitched. Each phase has its share of the steps and of the time limit;
its learning rate runs down at its end, or once over both phases (``routed_lr_factor`` 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from training.budget import Budget
from training.config import TrainSettings
from training.domain_sampler import DomainSampler
from training.domains import Domains
from training.optimisation import learning_rate
from training.samplers import Sampler, make_sampler
from training.steps import Compute

_SHRINKING = 0.5
"""Share of the routed phase over which several stages are spread; the rest trains the last one."""
_NO_TIME_S = 1e-9
"""A limit, where 0 would be none."""


@dataclass(frozen=True)
class Phase:
    """A stretch of the run whose steps are of one kind."""

    sampler: Sampler
    compute: Compute
    lr_factor: float
    stages: int
    """How many times routes are chosen; 0: never."""
    budget: Budget


class Phases:
    """Where a run stands: its phase, since when, and the stage of its routes."""

    def __init__(
        self, settings: TrainSettings, images: int, tasks: int, domains: Domains | None = None
    ) -> None:
        """``images`` and ``tasks``: how many there are to train on; ``domains``: where images are
        drawn by them."""
        self._settings = settings
        self._phases = _phases(settings, images, tasks, domains)
        self._index = 0
        self._start_step = 0
        self._start_s = 0.0
        self.stage = 0
        """Choices of routes made so far; whoever makes one counts it here."""

    @property
    def current(self) -> Phase:
        return self._phases[self._index]

    @property
    def total_steps(self) -> int:
        """Of the whole run, as far as is known."""
        return self._start_step + sum(
            phase.budget.total_steps for phase in self._phases[self._index :]
        )

    def go_on(self, step: int, elapsed_s: float) -> bool:
        """Whether the run has a step ``step``; enters the phase that it belongs to."""
        while step - self._start_step >= self.current.budget.fit(
            step - self._start_step, elapsed_s - self._start_s
        ):
            if self._index + 1 == len(self._phases):
                return False
            self._enter(self._index + 1, step, elapsed_s)
        return True

    def stage_of(self, step: int) -> int:
        """The stage that a step of the current phase belongs to, 0 where it has none."""
        last = self.current.stages
        if last < 2:
            return last
        return min(last, 1 + int(self._progress(step) / _SHRINKING * (last - 1)))

    @property
    def last_stage(self) -> int:
        """The stage of a finished run."""
        return self._phases[-1].stages

    def learning_rate(self, step: int) -> float:
        """Of a step of the current phase."""
        progress = self._progress(step)
        if not self._settings.routed_lr_factor and len(self._phases) > 1:
            start = self._settings.shared_start
            progress = start + (1 - start) * progress if self._index else start * progress
        return self.current.lr_factor * learning_rate(self._settings, progress)

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs, as JSON."""
        return {
            "phase": self._index,
            "start_step": self._start_step,
            "start_s": self._start_s,
            "stage": self.stage,
            "steps": [phase.budget.total_steps for phase in self._phases],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to where :meth:`state` was taken, maybe with another time limit.

        A state of nothing but ``steps`` is one of the first phase.
        """
        for phase, steps in zip(self._phases, state["steps"], strict=True):
            phase.budget.total_steps = min(phase.budget.total_steps, steps)
        self.stage = state.get("stage", 0)
        if state.get("phase", 0):
            self._enter(state["phase"], state["start_step"], state["start_s"])

    def _enter(self, index: int, step: int, elapsed_s: float) -> None:
        self._index, self._start_step, self._start_s = index, step, elapsed_s
        if self._settings.time_limit_s:
            left = self._settings.time_limit_s - elapsed_s
            self._phases[index].budget.limit_s = max(left, _NO_TIME_S)

    def _progress(self, step: int) -> float:
        return (step - self._start_step) / self.current.budget.total_steps


def _phases(
    settings: TrainSettings, images: int, tasks: int, domains: Domains | None
) -> tuple[Phase, ...]:
    sampler = (
        make_sampler(settings, images, tasks)
        if domains is None
        else DomainSampler(domains, settings.batch_size, settings.seed)
    )
    planned = max(1, round(settings.epochs * sampler.steps_per_epoch))
    if not settings.starts_apart:
        only = Budget(planned, settings.time_limit_s)
        return (Phase(sampler, settings.compute, 1.0, 0, only),)
    start = min(math.ceil(settings.shared_start * planned), max(1, planned - 1))
    routed = Phase(
        sampler,
        settings.compute,
        settings.routed_lr_factor or 1.0,
        settings.keep_stages if settings.scheme == "saliency" else 1,
        Budget(max(1, planned - start), settings.time_limit_s),
    )
    if not start:
        return (routed,)
    everything = make_sampler(settings.model_copy(update={"sampler": "all"}), images, tasks)
    limit_s = settings.time_limit_s * settings.shared_start
    # Without routes there is nothing to mask: all tasks in one pass.
    return (Phase(everything, "cut", 1.0, 0, Budget(start, limit_s)), routed)
