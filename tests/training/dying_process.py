"""Run by torchrun in a test: of two processes the second dies, and the first says what it sees."""

from __future__ import annotations

import os
import sys

import torch

from training.distributed import processes_of_run
from training.errors import ProcessLostError


def main() -> int:
    with processes_of_run("cpu") as processes:
        processes.gather(torch.zeros(1))
        if not processes.main:
            os._exit(9)
        try:
            processes.add_up(torch.zeros(1))
        except ProcessLostError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
