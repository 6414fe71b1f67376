"""The accelerator's memory."""

from __future__ import annotations

import torch


def release_cached_memory() -> None:
    """Give back what a failed batch left in the accelerator's allocator."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
