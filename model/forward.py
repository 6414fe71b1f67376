"""What runs a batch of rows, whichever strategy it follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from model.rows import RowBatch

Computing = Callable[[], None]
"""Called where a long computation begins that leaves the interpreter to other threads."""


def nobody_waits() -> None:
    """A :data:`Computing` that nobody makes use of."""


class Forward(Protocol):
    """Runs rows on the thread that calls it; not for several threads at once."""

    @property
    def name(self) -> str:
        """The strategy in use."""

    @property
    def kernels(self) -> str:
        """What runs the convolutions: "pytorch", or "compiled" and the instruction set."""

    def __call__(self, batch: RowBatch, computing: Computing = nobody_waits) -> Tensor:
        """Logits float32 [R, max_outputs] on the CPU, -inf beyond a task's outputs.

        ``computing`` is called once or more often: until then every other thread that runs Python
        code keeps this one, and with it all cores, from its work.
        """

    def close(self) -> None:
        """Stop what threads it has; they are started again when needed."""
