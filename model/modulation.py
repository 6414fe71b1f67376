"""Modulation: a learned scale, and maybe a shift, of every channel for every task.

Zhao et al., "A Modulation Module for Multi-task Learning" (ECCV 2018), section 3: ``w[task] * x``,
one weight per channel and task. With a shift beside it this is feature-wise linear modulation
(Perez et al., "FiLM", AAAI 2018, equation 2): ``gamma[task] * x + beta[task]``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.config import ModulationKind


class Modulation(nn.Module):
    """``scale[task] * x`` or ``scale[task] * x + shift[task]``, per channel; begins as identity.

    Sits behind batch norm, where FiLM puts it (Perez et al., Figure 3), and in front of the routing
    layer, so that a shift gives no task a unit that is not on its route.
    """

    def __init__(self, kind: ModulationKind, tasks: int, units: int) -> None:
        """``kind``: "scale" or "scale_shift"."""
        super().__init__()
        self.scale = nn.Parameter(torch.ones(tasks, units))
        shifted = kind == "scale_shift"
        self.shift = nn.Parameter(torch.zeros(tasks, units)) if shifted else None

    def forward(self, x: Tensor, task: int | Tensor) -> Tensor:
        """``x``: [N, units, H, W]; ``task``: one index, or int64 [N], one per row."""
        scale = self.scale[task]  # [units] or [N, units]
        return _modulated(x, scale, None if self.shift is None else self.shift[task])

    def forward_units(self, x: Tensor, task: int, units: Tensor | None) -> Tensor:
        """The channels ``units`` (int64 [n], None for all): ``x`` is [N, n, H, W]."""
        return _modulated(x, *self._of(task, units))

    def fold(self, task: int, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """``scale * x + shift`` with the modulation of ``task`` behind it, as one; each [units]."""
        own_scale, own_shift = self._of(task, None)
        shift = shift * own_scale
        return scale * own_scale, shift if own_shift is None else shift + own_shift

    def _of(self, task: int, units: Tensor | None) -> tuple[Tensor, Tensor | None]:
        columns = slice(None) if units is None else units
        shift = None if self.shift is None else self.shift[task, columns]
        return self.scale[task, columns], shift

    def extra_repr(self) -> str:
        tasks, units = self.scale.shape
        return f"tasks={tasks}, units={units}, shift={self.shift is not None}"


def _modulated(x: Tensor, scale: Tensor, shift: Tensor | None) -> Tensor:
    """In the parameters' precision; a product and a sum, each rounded, whatever the layout."""
    out = x * scale[..., :, None, None]
    return (out if shift is None else out + shift[..., :, None, None]).to(x.dtype)
