"""One routed convolution: conv -> batch norm (-> modulation) -> TRL -> ReLU (-> max pool).

The paper's Figure 3 with its ablation's rival in the same place (:mod:`model.modulation`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from model.batch_norm import BatchNorm
from model.config import ModulationKind
from model.modulation import Modulation
from model.routing_layer import TaskRoutingLayer


@dataclass(frozen=True)
class LayerShape:
    """A 3x3 convolution of a backbone, before any route is drawn."""

    in_units: int
    units: int
    batch_norm: bool
    pool: bool = False  # 2x2 max pool behind the ReLU

    def with_pool(self) -> LayerShape:
        return replace(self, pool=True)


class RoutedConv(nn.Module):
    """A convolution in which a task may use a share of the input and output units.

    Two ways to the same numbers: :meth:`forward` computes every unit and masks (the paper's way,
    the reference); :meth:`forward_units` computes the named units only, from the named inputs only.
    """

    def __init__(
        self,
        shape: LayerShape,
        mask: Tensor | None,
        norm_rows: int,
        modulation: ModulationKind = "none",
    ) -> None:
        """``mask``: bool [tasks, units], None where the layer is not routed, nor modulated."""
        super().__init__()
        self.shape = shape
        # Left uninitialised: `build` draws the weights, `Bundle.network` loads them. With batch
        # norm a bias would be lost in the mean.
        self.conv: nn.Conv2d = skip_init(  # type: ignore[no-untyped-call]
            nn.Conv2d, shape.in_units, shape.units, 3, padding=1, bias=not shape.batch_norm
        )
        self.norm = BatchNorm(shape.units, norm_rows) if shape.batch_norm else None
        self.modulation: Modulation | None = None
        self.route: TaskRoutingLayer | None = None
        self._set_route(mask, modulation)

    def set_route(
        self, mask: Tensor | None, norm_rows: int, modulation: ModulationKind = "none"
    ) -> None:
        """Exchange the route and the number of rows of statistics.

        Parameters stay the same; a modulation that was not there begins as the identity.
        """
        self._set_route(mask, modulation)
        if self.norm is not None:
            self.norm.set_rows(norm_rows)

    def _set_route(self, mask: Tensor | None, modulation: ModulationKind) -> None:
        device = self.conv.weight.device
        self.route = None if mask is None else TaskRoutingLayer(mask.to(device))
        if mask is None or modulation == "none":
            self.modulation = None
        elif self.modulation is None:
            self.modulation = Modulation(modulation, *mask.shape).to(device)

    @property
    def per_task(self) -> bool:
        """Whether tasks differ before the route: by their statistics or their modulation."""
        norm_per_task = self.norm is not None and self.norm.per_task
        return norm_per_task or self.modulation is not None

    def forward(self, x: Tensor, task: int | Tensor) -> Tensor:
        """[N, in_units, H, W] -> [N, units, H', W'], the task's unused units exactly zero."""
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x, task)
        if self.modulation is not None:
            x = self.modulation(x, task)
        if self.route is not None:
            x = self.route(x, task)
        return self._activate(x)

    def forward_units(
        self, x: Tensor, in_units: Tensor | None, out_units: Tensor | None, row: int
    ) -> Tensor:
        """[N, len(in_units), H, W] -> [N, len(out_units), H', W']; None means all units.

        ``row``: the task where the layer is :attr:`per_task`, else 0.
        Autograd scatters the gradients back into the full weights.
        """
        weight, bias = self.conv.weight, self.conv.bias
        if out_units is not None:
            weight = weight.index_select(0, out_units)
            bias = bias.index_select(0, out_units) if bias is not None else None
        if in_units is not None:
            weight = weight.index_select(1, in_units)
        x = F.conv2d(x, weight, bias, padding=1)
        if self.norm is not None:
            x = self.norm.forward_units(x, self.norm.row(row), out_units)
        if self.modulation is not None:
            x = self.modulation.forward_units(x, row, out_units)
        return self._activate(x)

    def _activate(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return F.max_pool2d(x, 2) if self.shape.pool else x

    def folded(self, row: int, out_units: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Weight [n, in_units, 3, 3] and bias [n] of ``out_units``, batch norm and modulation
        folded in."""
        weight, bias = self.conv.weight.detach(), self.conv.bias
        columns = slice(None) if out_units is None else out_units.to(weight.device)
        if self.norm is None and self.modulation is None:
            plain = torch.zeros_like(weight[:, 0, 0, 0]) if bias is None else bias.detach()
            return weight[columns], plain[columns]
        scale, shift = (part.detach()[columns] for part in self.scale_shift(row))
        return weight[columns] * scale[:, None, None, None], shift

    def scale_shift(self, row: int) -> tuple[Tensor, Tensor]:
        """Evaluation behind the bare convolution as ``scale * x + shift``, each [units]."""
        if self.norm is not None:
            scale, shift = self.norm.scale_shift(self.norm.row(row))
        else:
            scale = torch.ones_like(self.conv.weight[:, 0, 0, 0])
            shift = torch.zeros_like(scale) if self.conv.bias is None else self.conv.bias
        return (
            (scale, shift) if self.modulation is None else self.modulation.fold(row, scale, shift)
        )
