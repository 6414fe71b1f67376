"""How far a forward's probabilities lie from the reference: the masked network in float32."""

from __future__ import annotations

import math

from model.decision import probabilities
from model.forward import Forward
from model.rows import RowBatch
from model.strategies import MaskedForward, sample_batch
from model.task_network import TaskNetwork


def largest_probability_difference(
    forward: Forward, network: TaskNetwork, batch: RowBatch | None = None
) -> float:
    """The largest |dp| over the rows of ``batch``: by default one random image, up to 4 tasks.

    NaN logits on either side give infinity, so that no bound accepts them.
    """
    batch = batch or sample_batch(network, tasks=4)
    device = next(network.parameters()).device
    expected = MaskedForward(network, device)(batch).numpy()
    found = forward(batch).numpy()
    largest = 0.0
    for task_index, wanted, got in zip(batch.task_index.tolist(), expected, found, strict=True):
        task = network.tasks[task_index]
        difference = float(abs(probabilities(task, got) - probabilities(task, wanted)).max())
        largest = max(largest, math.inf if math.isnan(difference) else difference)
    return largest
