"""The cross-stitch unit.

Misra et al., "Cross-stitch Networks for Multi-task Learning" (CVPR 2016), equation 1, for any
number of towers: behind a pooling stage, ``x'[t] = sum over j of alpha[t, j] * x[j]``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

OWN_SHARE = 0.9
"""Of a tower's own activations in its next stage's input, at the start; the others' divide the
rest."""


class CrossStitch(nn.Module):
    """``alpha`` [towers, towers], whose rows sum to one whatever is learnt.

    What is learnt are the shares of the other towers; the diagonal is what they leave. Rows of any
    other sum would only scale a tower's activations, which its next batch norm takes out again,
    and without one would make them grow or fade stage by stage.
    """

    def __init__(self, towers: int) -> None:
        super().__init__()
        # Not named weight: no weight decay, which would pull the towers apart.
        share = (1.0 - OWN_SHARE) / max(1, towers - 1)
        self.shares = nn.Parameter(torch.full((towers, towers), share))  # the diagonal is not used

    @property
    def alpha(self) -> Tensor:
        """[towers, towers]: row t is what tower t goes on with."""
        others = self.shares - torch.diag(self.shares.diagonal())
        return others + torch.diag(1.0 - others.sum(dim=1))

    def forward(self, towers: Sequence[Tensor]) -> list[Tensor]:
        """One [N, C, H, W] per tower, mixed; in the precision they come in."""
        stacked = torch.stack(list(towers))
        mixed = torch.tensordot(self.alpha.to(stacked.dtype), stacked, dims=1)
        return list(mixed.unbind())

    def extra_repr(self) -> str:
        return f"towers={len(self.shares)}"
