"""What runs a batch of rows, whichever strategy it follows."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from model.rows import RowBatch


class Forward(Protocol):
    """Runs rows on the thread that calls it; not for several threads at once."""

    @property
    def name(self) -> str:
        """The strategy in use."""

    @property
    def kernels(self) -> str:
        """What runs the convolutions: "pytorch", or "compiled" and the instruction set."""

    def __call__(self, batch: RowBatch) -> Tensor:
        """Logits float32 [R, max_outputs] on the CPU, -inf beyond a task's outputs."""

    def close(self) -> None:
        """Stop what threads it has; they are started again when needed."""
