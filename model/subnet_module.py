"""Tasks' subnets as plain modules, for export: no routes, no masks, no other task's weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network import RoutedNetwork
from model.plan import Cut, Node, NodeFork, make_plan, used_features
from model.unfilled_layers import UnfilledConv2d, UnfilledLinear


class SubnetModule(nn.Module):
    """Of one task: convolutions cut to its units with batch norm folded in, pooling, its head."""

    def __init__(self, network: RoutedNetwork, task: int) -> None:
        super().__init__()
        self.normalise = _Normalise(network, task)
        layers: list[_Convolution] = []
        units = None
        nodes = make_plan(network, [task])
        while nodes:
            fork = nodes[0].forks[0]
            layers.append(_Convolution(network, fork.alone))
            units, nodes = fork.units, fork.nodes
        self.trunk = _Trunk(layers)
        self.head = _Head(network, task, units)

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 [N, H, W, 3] -> logits float32 [N, outputs]."""
        logits: Tensor = self.head(self.trunk(self.normalise(pixels)).mean(dim=(2, 3)))
        return logits


class SubnetsModule(nn.Module):
    """Of several tasks: what they share once, then what each has of its own."""

    def __init__(self, network: RoutedNetwork, tasks: Sequence[int]) -> None:
        super().__init__()
        roots = make_plan(network, tasks)
        domains = [network.domain_of[root.tasks[0]] for root in roots]
        self._input_of = [domains.index(domain) for domain in domains]
        self.inputs = nn.ModuleDict(
            {str(place): _Normalise(network, roots[place].tasks[0]) for place in self._input_of}
        )
        self.roots = nn.ModuleList(_Branch(network, root) for root in roots)
        used = used_features(roots)
        self._computed_by = [network.computed_by[task] for task in tasks]
        self.heads = nn.ModuleList(
            _Head(network, task, used[same])
            for task, same in zip(tasks, self._computed_by, strict=True)
        )

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """uint8 [N, H, W, 3] -> by task, logits float32 [N, outputs]."""
        inputs = {place: normalise(pixels) for place, normalise in self.inputs.items()}
        features: dict[int, Tensor] = {}
        for place, root in zip(self._input_of, self.roots, strict=True):
            root(inputs[str(place)], features)
        pairs = zip(self.heads, self._computed_by, strict=True)
        return tuple(head(features[task]) for head, task in pairs)


class _Branch(nn.Module):
    """One convolution of the plan, and what follows it on each route."""

    def __init__(self, network: RoutedNetwork, node: Node) -> None:
        super().__init__()
        self.convolution = _Convolution(network, node.cut)
        self.forks = nn.ModuleList(_Fork(network, fork) for fork in node.forks)

    def forward(
        self, x: Tensor, features: dict[int, Tensor], block_input: Tensor | None = None
    ) -> None:
        """``features``: receives what tasks read behind the last convolution."""
        block_input = x if self.convolution.begins_block else block_input
        x = self.convolution(x, block_input)
        for fork in self.forks:
            fork(x, features, block_input)


class _Fork(nn.Module):
    select: Tensor | None  # int64: this route's channels of the convolution's output

    def __init__(self, network: RoutedNetwork, fork: NodeFork) -> None:
        super().__init__()
        self.register_buffer("select", fork.select, persistent=False)
        self.tasks = sorted(fork.tasks)
        self.branches = nn.ModuleList(_Branch(network, node) for node in fork.nodes)

    def forward(self, x: Tensor, features: dict[int, Tensor], block_input: Tensor | None) -> None:
        x = x if self.select is None else x.index_select(1, self.select)
        for branch in self.branches:
            branch(x, features, block_input)
        if not self.branches:
            features |= dict.fromkeys(self.tasks, x.mean(dim=(2, 3)))


class _Normalise(nn.Module):
    mean: Tensor  # [3, 1, 1], of pixels 0..255
    std: Tensor

    def __init__(self, network: RoutedNetwork, task: int) -> None:
        """As the domain of ``task`` has it."""
        super().__init__()
        domain = network.domain_of[task]
        self.register_buffer("mean", network.mean[domain].detach().clone())
        self.register_buffer("std", network.std[domain].detach().clone())

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 [N, H, W, 3] -> float32 [N, 3, H, W]."""
        return (pixels.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) / self.std


class _Head(nn.Module):
    """A task's head, cut to the features it reads."""

    def __init__(self, network: RoutedNetwork, task: int, units: Tensor | None) -> None:
        super().__init__()
        heads = network.heads
        rows = slice(heads.starts[task], heads.starts[task] + heads.outputs[task])
        used = slice(None) if units is None else units
        self.embed: nn.Linear | None = None
        if heads.embed_weight is not None and heads.embed_bias is not None:
            self.embed = _linear(heads.embed_weight[task][:, used], heads.embed_bias[task])
            used = slice(None)
        self.logits = _linear(heads.weight[rows][:, used], heads.bias[rows])

    def forward(self, x: Tensor) -> Tensor:
        """[N, used features] -> [N, outputs]."""
        if self.embed is not None:
            x = F.relu(self.embed(x))
        logits: Tensor = self.logits(x)
        return logits


class _Trunk(nn.Sequential):
    """A task's convolutions one behind the other, residual blocks' inputs added where they end."""

    def __init__(self, layers: Sequence[_Convolution]) -> None:
        super().__init__(*layers)
        self._begins_block = [layer.begins_block for layer in layers]

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, used features, H', W']."""
        block_input = x
        for layer, begins in zip(self, self._begins_block, strict=True):
            block_input = x if begins else block_input
            x = layer(x, block_input)
        return x


class _Convolution(nn.Module):
    """A convolution, cut, what comes around its residual block, ReLU and maybe a pool."""

    select: Tensor | None  # int64: channels of the block's input that an identity adds

    def __init__(self, network: RoutedNetwork, cut: Cut) -> None:
        super().__init__()
        layer = network.layers[cut.layer]
        shape, shortcut = layer.shape, cut.shortcut
        self.begins_block, self._adds = shape.begins_block, shortcut is not None
        self.conv = _conv2d(*cut.folded(layer, torch.float32), shape.stride)
        around = (
            None
            if shortcut is None
            else shortcut.folded(layer, cut.row, cut.out_units, torch.float32)
        )
        self.around: nn.Conv2d | None = None
        if around is not None and shape.shortcut is not None:
            self.around = _conv2d(*around, shape.shortcut.stride)
        select = None if shortcut is None else shortcut.select
        self.register_buffer("select", select, persistent=False)
        self.pool: nn.MaxPool2d | None = None
        if shape.pool:
            self.pool = nn.MaxPool2d(shape.pool_size, 2, padding=shape.pool_size // 3)

    def forward(self, x: Tensor, block_input: Tensor | None = None) -> Tensor:
        """``block_input``: of the residual block that the layer ends; others ignore it."""
        x = self.conv(x)
        if self._adds and block_input is not None:
            if self.around is not None:
                block_input = self.around(block_input)
            elif self.select is not None:
                block_input = block_input.index_select(1, self.select)
            x = x + block_input
        x = F.relu(x)
        return x if self.pool is None else self.pool(x)


def _conv2d(weight: Tensor, bias: Tensor, stride: int) -> nn.Conv2d:
    size = weight.shape[2]
    conv: nn.Conv2d = UnfilledConv2d(
        weight.shape[1], weight.shape[0], size, stride=stride, padding=size // 2
    )
    conv.weight, conv.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
    return conv


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear: nn.Linear = UnfilledLinear(weight.shape[1], weight.shape[0])
    linear.weight = nn.Parameter(weight.detach().clone())
    linear.bias = nn.Parameter(bias.detach().clone())
    return linear
