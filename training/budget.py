"""A time limit kept by shortening the run, so that its schedule still ends where it should."""

from __future__ import annotations

from dataclasses import dataclass

_FIRST_LOOK = 0.05
"""Share of the planned steps before the rate is trusted: the first ones warm caches up."""
_MARGIN = 0.97


@dataclass
class Budget:
    """How many steps a run has, given how long its steps take.

    A run that fits its limit keeps its planned steps, whatever the machine, and so stays
    reproducible; one that would not fit ends earlier, with its learning rate all the way down.
    """

    total_steps: int
    limit_s: float
    """0 for no limit."""

    def fit(self, step: int, elapsed_s: float) -> int:
        """Shorten the run where its rate so far says it must; returns how many steps it has."""
        if self.limit_s and step >= max(1, _FIRST_LOOK * self.total_steps):
            affordable = int(self.limit_s * _MARGIN * step / elapsed_s) if elapsed_s > 0 else step
            if elapsed_s >= self.limit_s:
                affordable = step
            self.total_steps = max(step, min(self.total_steps, affordable))
        return self.total_steps
