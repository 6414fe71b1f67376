"""How many rows a batch may have, as memory allows."""

from __future__ import annotations

_BATCHES_BEFORE_GROWTH = 64


class RowLimit:
    """Halves when memory runs out and grows back by an eighth after every 64 batches without it."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._quiet = 0
        self.rows = maximum

    def out_of_memory(self, rows: int) -> None:
        """A batch of ``rows`` did not fit."""
        self.rows = max(1, min(self.rows, rows // 2))
        self._quiet = 0

    def fitted(self) -> None:
        """A batch did fit."""
        if self.rows == self._maximum:
            return
        self._quiet += 1
        if self._quiet == _BATCHES_BEFORE_GROWTH:
            self.rows = min(self._maximum, self.rows + max(1, self.rows // 8))
            self._quiet = 0
