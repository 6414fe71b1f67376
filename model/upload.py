"""Images on their way to the device."""

from __future__ import annotations

import torch
from torch import Tensor


def upload(images: Tensor, device: torch.device) -> Tensor:
    """``images`` on ``device``; to a GPU through pinned memory, while the caller goes on."""
    if device.type != "cuda":
        return images.to(device)
    return images.pin_memory().to(device, non_blocking=True)
