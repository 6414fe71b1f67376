"""A time limit kept by shortening the run, so that its schedule still ends where it should."""

from __future__ import annotations

from dataclasses import dataclass, field

_FIRST_LOOK = 0.05
"""Share of the planned steps after which the rate is trusted."""
_MARGIN = 0.03
"""Share of the limit kept in reserve once the run has to be shortened."""


@dataclass
class Budget:
    """How many steps a run has, given how long its steps take.

    A run that fits its limit keeps its planned steps, whatever the machine, and so stays
    reproducible; one that would not fit ends earlier, with its learning rate all the way down. What
    was cut comes back where the machine gets faster again.
    """

    total_steps: int
    limit_s: float
    """0 for no limit."""
    _planned: int = field(init=False)
    _first: tuple[int, float] | None = None
    """Step and seconds from which the rate is measured: behind the first step, which is slow."""

    def __post_init__(self) -> None:
        self._planned = self.total_steps

    def fit(self, step: int, elapsed_s: float) -> int:
        """Fit the planned steps to the limit by their rate so far; returns how many the run has."""
        if not self.limit_s or step == 0:
            return self.total_steps
        if elapsed_s >= self.limit_s:
            self.total_steps = min(self.total_steps, step)
        elif self._first is None:
            self._first = (step, elapsed_s)
        elif step - self._first[0] >= _FIRST_LOOK * self.total_steps:
            seconds_per_step = (elapsed_s - self._first[1]) / (step - self._first[0])
            fitting = self._planned
            if elapsed_s + seconds_per_step * (fitting - step) > self.limit_s:
                left = self.limit_s * (1 - _MARGIN) - elapsed_s
                fitting = min(fitting, step + int(left / seconds_per_step))
            self.total_steps = max(step, fitting)
        return self.total_steps
