"""A task's own convolutions as one function that ``torch.compile`` makes once for all tasks.

The tails of one model have the same shapes, so weights are arguments: what is compiled for one task
runs all. On GPUs the calls become CUDA graphs, which are launched whole.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class PlainConv:
    """A cut convolution's weights as PyTorch's operators take them."""

    weight: Tensor  # [out, in, 3, 3], channels last
    bias: Tensor  # [out]
    pool: bool

    @property
    def bytes(self) -> int:
        return self.weight.nbytes + self.bias.nbytes


class CompiledTail:
    """Runs tails; where nothing can be compiled, uncompiled, which the log says once."""

    def __init__(self, device: torch.device, compiler: Callable[..., Any] = torch.compile) -> None:
        graphs = {"mode": "reduce-overhead"} if device.type == "cuda" else {}
        self._compiled: Callable[..., Tensor] = compiler(_tail, **graphs)
        self.works = True

    def __call__(self, x: Tensor, layers: Sequence[PlainConv]) -> Tensor:
        """[N, in, H, W] -> float32 [N, features], the means over the last layer's pixels."""
        from torch._dynamo.exc import TorchDynamoException  # imports the compiler

        weights = [(layer.weight, layer.bias) for layer in layers]
        pools = tuple(layer.pool for layer in layers)
        if self.works:
            try:
                # Cloned: a CUDA graph writes its next result to the same place.
                return self._compiled(x, weights, pools).clone()
            except TorchDynamoException as error:
                self.works = False
                logger.warning(
                    "torch.compile does not work here, and subnets run uncompiled (it wants a C++ "
                    "compiler, for GPUs Triton; unset compile_subnets to be rid of this): %s",
                    str(error).strip().splitlines()[0],
                )
        return _tail(x, weights, pools)


def _tail(x: Tensor, weights: Sequence[tuple[Tensor, Tensor]], pools: Sequence[bool]) -> Tensor:
    for (weight, bias), pool in zip(weights, pools, strict=True):
        x = F.relu(F.conv2d(x, weight, bias, padding=1))
        x = F.max_pool2d(x, 2) if pool else x
    return x.mean(dim=(2, 3)).float()
