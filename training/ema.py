"""An exponential moving average of the weights: steadier than the last step's, and usually better.

Only weights are averaged. Batch-norm statistics belong to the weights they were taken with, so
those of the averaged weights are taken anew (:mod:`training.recalibration`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from model.task_network import TaskNetwork


class AveragedWeights:
    """``average = decay * average + (1 - decay) * weight`` after every step."""

    def __init__(self, network: TaskNetwork, decay: float) -> None:
        """Starts from the present weights; ``decay`` lies between 0 and 1."""
        self._decay = decay
        self._averages = {
            name: parameter.detach().clone() for name, parameter in network.named_parameters()
        }

    @torch.no_grad()
    def update(self, network: TaskNetwork, step: int) -> None:
        """Take in the weights after step ``step``, counted from 0.

        Early on the average is over fewer steps, so that where the run began is forgotten:
        the decay is at most (1 + step) / (10 + step), as in TensorFlow's moving average.
        """
        decay = min(self._decay, (1 + step) / (10 + step))
        parameters = [parameter.detach() for parameter in network.parameters()]
        average_into = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        average_into(list(self._averages.values()), parameters, 0)

    @torch.no_grad()
    def copy_to(self, network: TaskNetwork) -> None:
        """Replace the network's weights by the averages."""
        for name, parameter in network.named_parameters():
            parameter.copy_(self._averages[name])

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by parameter name: what a resumed run needs."""
        return dict(self._averages)

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from saved averages.

        Raises:
            ValueError: they are not of this network.
        """
        if tensors.keys() != self._averages.keys():
            raise ValueError("it has no averaged weights (ema_decay) of these parameters")
        for name, average in self._averages.items():
            average.copy_(tensors[name])
