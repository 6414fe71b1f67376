"""How many threads PyTorch computes with on the CPU."""

from __future__ import annotations

import torch

from model.cpu import cpu_budget


def use_threads(threads: int) -> None:
    """Set PyTorch's threads.

    Args:
        threads: 0 for PyTorch's own choice (the cores, or ``OMP_NUM_THREADS``), but no more than
            the container may use: PyTorch does not know its quota, and threads beyond it are
            throttled.
    """
    torch.set_num_threads(threads or min(torch.get_num_threads(), cpu_budget().cpus))
