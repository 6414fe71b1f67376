"""The engine's sign of life."""

from __future__ import annotations

from service.core.clock import Clock


class Heartbeat:
    """Written by the engine thread, read by the watchdog; single values, so no lock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.at = clock.now()
        self.in_call = False  # a warm-up, say: how long it takes is not known before

    def beat(self) -> float:
        """Say "alive"; returns the time of it."""
        self.at = self._clock.now()
        return self.at

    def age(self) -> float:
        """Seconds since the last beat."""
        return self._clock.now() - self.at
