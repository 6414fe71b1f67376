"""Layers whose weights are filled in later: drawn by ``build``, or read from a bundle.

:func:`torch.nn.utils.skip_init` does the same by way of the meta device, whose first use imports
for a second or more: too long for a service that is waited for.
"""

from __future__ import annotations

from torch import nn


class UnfilledConv2d(nn.Conv2d):
    """A convolution with memory for weights, and nothing drawn into it."""

    def reset_parameters(self) -> None:
        """Leave the memory as it is."""


class UnfilledLinear(nn.Linear):
    """A linear layer with memory for weights, and nothing drawn into it."""

    def reset_parameters(self) -> None:
        """Leave the memory as it is."""
