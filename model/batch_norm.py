"""Batch normalisation whose statistics may belong to tasks.

A batch of one task sees only that task's channels, so its activations have other means and
variances than another task's. Statistics averaged over tasks fit none of them; one row of
statistics per task does, and costs nothing to serve because it folds into the task's subnet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.Module):
    """Batch norm over [N, C, H, W] with one row of running statistics, or one row per task.

    The affine weight and bias are shared, or with ``own_affine`` one row per row of statistics too.
    ``momentum`` None gives a cumulative average, for recalibration; it counts the batches of a row,
    so each must update the same units.
    """

    running_mean: Tensor  # [rows, C]
    running_var: Tensor  # [rows, C]
    batches_seen: Tensor  # int64 [rows]

    def __init__(self, channels: int, rows: int = 1, *, own_affine: bool = False) -> None:
        super().__init__()
        self.eps = 1e-5
        self.momentum: float | None = 0.1
        self.frozen = False  # normalises with its running statistics in training too
        # F.batch_norm of a training batch that other processes have the rest of.
        self.over_processes: Callable[..., Tensor] | None = None
        self.own_affine = own_affine
        shape = (rows, channels) if own_affine else (channels,)
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape))
        self.register_buffer("running_mean", torch.zeros(rows, channels))
        self.register_buffer("running_var", torch.ones(rows, channels))
        self.register_buffer("batches_seen", torch.zeros(rows, dtype=torch.int64))

    @property
    def per_task(self) -> bool:
        return self.running_mean.shape[0] > 1

    def row(self, task: int) -> int:
        """Which row of statistics ``task`` uses."""
        return task if self.per_task else 0

    def forward(self, x: Tensor, task: int | Tensor) -> Tensor:
        """``x``: [N, C, H, W]; ``task``: one index, or int64 [N], one per row."""
        if isinstance(task, int):
            return self.forward_units(x, self.row(task), None)
        updated = self.training and not self.frozen
        if updated and not self.per_task:
            return self.forward_units(x, 0, None)
        if updated:
            out = torch.empty_like(x)
            for row in torch.unique(task).tolist():
                chosen = (task == row).nonzero().flatten()
                out = out.index_copy(0, chosen, self.forward_units(x[chosen], row, None))
            return out
        # The same arithmetic with one row of statistics, which a second task may turn into two.
        rows = task if self.per_task else torch.zeros_like(task)
        weight, bias = self._affine(rows)
        scale = weight * (self.running_var[rows] + self.eps).rsqrt()  # [N, C]
        shift = bias - self.running_mean[rows] * scale
        return torch.addcmul(shift[:, :, None, None], x, scale[:, :, None, None])

    def forward_units(self, x: Tensor, row: int, units: Tensor | None) -> Tensor:
        """Normalise the channels ``units`` (int64 [n], None for all): ``x`` is [N, n, H, W].

        In training mode, updates the running statistics of those channels in ``row`` and no others.
        """
        columns = slice(None) if units is None else units
        weight, bias = (part[columns] for part in self._affine(row))
        mean, var = self.running_mean[row, columns], self.running_var[row, columns]
        if not self.training or self.frozen:
            return F.batch_norm(x, mean, var, weight, bias, training=False, eps=self.eps)
        # Copies, written back below: autograd keeps what it was given, and several forward passes
        # may come before one backward pass.
        mean, var = mean.clone(), var.clone()
        if x.numel() == x.shape[1] and self.over_processes is None:
            # One value per channel has no variance: a last batch of one image, or one row of its
            # task, where the feature map is a single pixel.
            return F.batch_norm(x, mean, var, weight, bias, training=False, eps=self.eps)
        if self.momentum is None and units is not None and not self.per_task:
            raise ValueError(
                "shared batch-norm statistics cannot be averaged cumulatively from some units: run "
                "forward(), which updates all of them, or keep statistics per task"
            )
        self.batches_seen[row] += 1
        momentum = 1.0 / int(self.batches_seen[row]) if self.momentum is None else self.momentum
        normalise = self.over_processes or F.batch_norm
        out = normalise(x, mean, var, weight, bias, training=True, momentum=momentum, eps=self.eps)
        self.running_mean[row, columns] = mean
        self.running_var[row, columns] = var
        return out

    def forward_side_by_side(self, x: Tensor, rows: Sequence[int], units: Tensor) -> Tensor:
        """:meth:`forward_units` of several rows, each its own, in one operation.

        Args:
            x: [N, G * n, H, W], row by row.
            units: int64 [G, n], which channels each row has there.
        """
        row = torch.tensor(rows, device=x.device).repeat_interleave(units.shape[1])
        columns = units.flatten()
        affine = (self.weight, self.bias)
        weight, bias = (p[row, columns] if self.own_affine else p[columns] for p in affine)
        mean, var = self.running_mean[row, columns], self.running_var[row, columns]
        one_value = x.numel() == x.shape[1] and self.over_processes is None
        if not self.training or self.frozen or one_value:
            return F.batch_norm(x, mean, var, weight, bias, training=False, eps=self.eps)
        self.batches_seen[list(rows)] += 1
        if self.momentum is None:
            share = 1.0 / self.batches_seen[row].to(mean.dtype)
        else:
            share = torch.full_like(mean, self.momentum)
        batch_mean, batch_var = torch.zeros_like(mean), torch.zeros_like(var)
        normalise = self.over_processes or F.batch_norm
        # With a momentum of one the batch's own statistics come out; rows may average differently.
        out = normalise(
            x, batch_mean, batch_var, weight, bias, training=True, momentum=1.0, eps=self.eps
        )
        self.running_mean[row, columns] = mean.lerp(batch_mean, share)
        self.running_var[row, columns] = var.lerp(batch_var, share)
        return out

    def scale_shift(self, row: int) -> tuple[Tensor, Tensor]:
        """Evaluation mode as ``scale * x + shift``, each [C]: what folds into a convolution."""
        weight, bias = self._affine(row)
        scale = weight * (self.running_var[row] + self.eps).rsqrt()
        return scale, bias - self.running_mean[row] * scale

    def _affine(self, row: int | Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of a row: [C]; of a vector of rows with their own, [N, C]."""
        return (self.weight[row], self.bias[row]) if self.own_affine else (self.weight, self.bias)

    def set_rows(self, rows: int) -> None:
        """Statistics for ``rows`` tasks: one row becomes the start of each.

        Raises:
            ValueError: statistics of several tasks have no common value to start others from.
        """
        present = self.running_mean.shape[0]
        if rows == present:
            return
        if present != 1 or self.own_affine:
            raise ValueError(f"statistics of {present} tasks cannot become those of {rows}")
        self.running_mean = self.running_mean.repeat(rows, 1)
        self.running_var = self.running_var.repeat(rows, 1)
        self.batches_seen = self.batches_seen.repeat(rows)

    def reset_statistics(self) -> None:
        self.running_mean.zero_()
        self.running_var.fill_(1.0)
        self.batches_seen.zero_()

    def extra_repr(self) -> str:
        rows, channels = self.running_mean.shape
        return f"{channels}, rows={rows}, eps={self.eps}"
