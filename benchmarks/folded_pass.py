"""A hard-shared network the usual way: one dense pass with batch norm folded, then every head.

Plain eager PyTorch, channels last: what answering all tasks at once costs without routing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.network import RoutedNetwork
from model.subnet_module import SubnetModule


class FoldedPass:
    """All tasks of some images."""

    def __init__(self, network: RoutedNetwork) -> None:
        """``network``: one whose layers are not routed."""
        self._trunk = SubnetModule(network, 0).trunk.to(memory_format=torch.channels_last)
        self._network = network.eval()

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """uint8 [N, H, W, 3] -> logits [N * tasks, max_outputs]."""
        features = self._trunk(self._network.normalise(images)).mean(dim=(2, 3))
        tasks = torch.arange(len(self._network.tasks))
        rows = features.repeat_interleave(len(tasks), dim=0)
        logits: Tensor = self._network.heads(rows, tasks.repeat(len(images)))
        return logits
