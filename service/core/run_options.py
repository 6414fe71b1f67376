"""How a loaded model is to be run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from model.strategies import Strategy
from model.weight_cache import DEFAULT_BUDGET_BYTES

Precision = Literal["float32", "bfloat16", "float16"]

_DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class RunOptions:
    """Strategy, place and precision of the engine."""

    strategy: Strategy | Literal["auto"] = "auto"
    device: str = "cpu"
    precision: Precision = "float32"
    max_probability_error: float = 0.02  # of a probability, against masked float32
    workers: int = 1  # threads over which the subnet strategy spreads tasks
    compiled_kernels: bool = True  # where they are at hand
    compile_subnets: bool = False  # by torch.compile, where they are not
    subnet_budget_bytes: int = DEFAULT_BUDGET_BYTES

    @property
    def dtype(self) -> torch.dtype:
        return _DTYPES[self.precision]
