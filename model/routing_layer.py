"""The Task Routing Layer (paper, section 3.1, equation 1 and Figure 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TaskRoutingLayer(nn.Module):
    """Keeps a task's units and sets the others to zero: ``out = M[task] * x``.

    Sits between batch norm and ReLU. The mask is a buffer: not a parameter, not trained, saved with
    the weights. Out of place, and by selection rather than multiplication, so the gradient of an
    unused unit is exactly zero whatever its value.
    """

    mask: Tensor  # bool [tasks, units]

    def __init__(self, mask: Tensor) -> None:
        """``mask``: bool [tasks, units]; every task must keep at least one unit."""
        super().__init__()
        if mask.dtype != torch.bool or mask.ndim != 2:
            raise ValueError(
                f"mask must be bool [tasks, units], got {mask.dtype} {tuple(mask.shape)}"
            )
        if not bool(mask.any(dim=1).all()):
            raise ValueError(
                "a task without units in its mask would answer the same for every image"
            )
        self.register_buffer("mask", mask.clone())

    def forward(self, x: Tensor, task: int | Tensor) -> Tensor:
        """``x``: [N, units, ...]; ``task``: one index for all rows, or int64 [N], one per row."""
        rows = self.mask[task]  # [units] or [N, units]
        if rows.ndim == 1:
            rows = rows.unsqueeze(0)
        return torch.where(rows.reshape(*rows.shape, *(1,) * (x.ndim - 2)), x, x.new_zeros(()))

    def extra_repr(self) -> str:
        tasks, units = self.mask.shape
        return f"tasks={tasks}, units={units}"
