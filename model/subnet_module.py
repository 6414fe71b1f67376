"""One task's subnet as a plain module, for export: no routes, no masks, no other task's weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from model.network import RoutedNetwork
from model.plan import Cut, make_plan


class SubnetModule(nn.Module):
    """Convolutions cut to the task's units with batch norm folded in, pooling, the task's head."""

    mean: Tensor  # [1, 3, 1, 1], of pixels 0..255
    std: Tensor

    def __init__(self, network: RoutedNetwork, task: int) -> None:
        super().__init__()
        self.register_buffer("mean", network.mean.detach().clone())
        self.register_buffer("std", network.std.detach().clone())
        layers: list[nn.Module] = []
        units = None
        nodes = make_plan(network, [task])
        while nodes:
            fork = nodes[0].forks[0]
            layers += _convolution(network, fork.alone)
            units, nodes = fork.units, fork.nodes
        self.trunk = nn.Sequential(*layers)
        heads = network.heads
        rows = slice(heads.starts[task], heads.starts[task] + heads.outputs[task])
        used = slice(None) if units is None else units
        self.embed: nn.Linear | None = None
        if heads.embed_weight is not None and heads.embed_bias is not None:
            self.embed = _linear(heads.embed_weight[task][:, used], heads.embed_bias[task])
            used = slice(None)
        self.logits = _linear(heads.weight[rows][:, used], heads.bias[rows])

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 [N, H, W, 3] -> logits float32 [N, outputs]."""
        x = (pixels.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) / self.std
        x = self.trunk(x).mean(dim=(2, 3))
        if self.embed is not None:
            x = F.relu(self.embed(x))
        logits: Tensor = self.logits(x)
        return logits


def _convolution(network: RoutedNetwork, cut: Cut) -> list[nn.Module]:
    layer = network.layers[cut.layer]
    weight, bias = cut.folded(layer, torch.float32)
    conv: nn.Conv2d = skip_init(  # type: ignore[no-untyped-call]
        nn.Conv2d, weight.shape[1], weight.shape[0], 3, padding=1
    )
    conv.weight, conv.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
    return [conv, nn.ReLU(), *([nn.MaxPool2d(2)] if layer.shape.pool else [])]


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear: nn.Linear = skip_init(  # type: ignore[no-untyped-call]
        nn.Linear, weight.shape[1], weight.shape[0]
    )
    linear.weight = nn.Parameter(weight.detach().clone())
    linear.bias = nn.Parameter(bias.detach().clone())
    return linear
