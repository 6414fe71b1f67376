"""The baseline: what the paper describes, straightforwardly.

Set the task, run the full network with its masks, read that task's head, go on with the next task.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.network import RoutedNetwork


class PaperLoop:
    """One full, masked pass for every task, in plain eager PyTorch."""

    def __init__(self, network: RoutedNetwork, *, channels_last: bool) -> None:
        """``channels_last``: the memory order of images, activations and weights."""
        order = torch.channels_last if channels_last else torch.contiguous_format
        self._network = network.eval().to(memory_format=order)
        self._order = order

    @torch.inference_mode()
    def __call__(self, images: Tensor, tasks: range) -> list[Tensor]:
        """uint8 [N, H, W, 3] -> per task logits [N, outputs]."""
        answers = []
        for task in tasks:
            x = self._network.normalise(images).contiguous(memory_format=self._order)
            for layer in self._network.layers:
                x = layer(x, task)
            answers.append(self._network.heads(x.mean(dim=(2, 3)), task))
        return answers
