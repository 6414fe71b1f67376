"""What every peer runs behind its own HTTP front: decode, predict, render.

The same function for all, so that what differs between peers is the peer. Imported in the peers'
own environments; torch and the libraries of ``model`` come from the shared one.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.base import BATCHES_FILE, Settings
from model.decision import answer
from model.preprocess import load_image
from model.repository import Repository
from model.rows import RowBatch
from model.strategies import make_forward

Predictions = dict[str, Any]


class Handler:
    """One copy of the model."""

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        bundle = Repository(settings.repository).read(settings.model)
        self.network = bundle.network()
        self.tasks = self.network.tasks
        self._spec = bundle.config.preprocess
        self._forward = make_forward(self.network, settings.strategy, workers=settings.threads)
        # Unbuffered, in append mode: one short write a batch, from however many processes.
        log = Path(settings.folder) / BATCHES_FILE if settings.folder else Path(os.devnull)
        self._log = log.open("ab", buffering=0)
        blank = torch.zeros(1, self._spec.height, self._spec.width, 3, dtype=torch.uint8)
        self._forward(RowBatch.all_pairs(blank, range(len(self.tasks))))  # warm-up

    def decode(self, jpeg: bytes) -> torch.Tensor:
        """uint8 [H, W, 3]."""
        return torch.from_numpy(load_image(jpeg, self._spec).pixels)

    def answer(self, asked: Sequence[tuple[bytes, str]]) -> list[Predictions]:
        """Answer a batch of requests, each a JPEG file and a comma-separated list of tasks."""
        if not asked:
            return []
        images = torch.stack([self.decode(jpeg) for jpeg, _ in asked])
        tasks = [self.tasks.select(names.split(",")) for _, names in asked]
        lengths = torch.tensor([len(one) for one in tasks])
        self._log.write(b"%d\n" % int(lengths.sum()))
        batch = RowBatch(
            images,
            torch.arange(len(asked)).repeat_interleave(lengths),
            torch.tensor([task for one in tasks for task in one]),
        )
        logits = self._forward(batch)
        return [
            self._render(one, rows)
            for one, rows in zip(tasks, torch.split(logits, lengths.tolist()), strict=True)
        ]

    @torch.inference_mode()
    def answer_in_a_loop(self, jpeg: bytes, names: str) -> Predictions:
        """What a newcomer writes: one pass of the masked network for each task of the picture."""
        image = self.decode(jpeg)[None]
        tasks = self.tasks.select(names.split(","))
        self._log.write(b"1\n" * len(tasks))
        return self._render(tasks, torch.cat([self.network(image, task) for task in tasks]))

    def _render(self, tasks: Sequence[int], logits: torch.Tensor) -> Predictions:
        rows = logits.numpy()
        found = [answer(self.tasks[task], row) for task, row in zip(tasks, rows, strict=True)]
        return {
            "predictions": [
                {
                    "task": one.task,
                    "label": one.label,
                    "probability": one.probability,
                    "threshold": one.threshold,
                    "calibrated": one.calibrated,
                }
                for one in found
            ]
        }


@functools.cache
def shared_handler() -> Handler:
    """One handler per process, for frameworks that build their model objects more than once."""
    return Handler(Settings.from_environment())
