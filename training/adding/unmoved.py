"""The promise that is kept before anything is published: no old answer moves by a bit."""

from __future__ import annotations

import numpy as np
import torch

from model.errors import ConfigError
from model.network import RoutedNetwork
from model.rows import RowBatch
from model.strategies import STRATEGIES, make_forward
from training.decoding import ImageSet

_IMAGES = 4


def check_unmoved(before: RoutedNetwork, after: RoutedNetwork, images: ImageSet) -> None:
    """Ask every task of ``before`` about some images, in every way that batches are run.

    Raises:
        ConfigError: an answer of ``after`` differs in any bit.
    """
    pixels = torch.from_numpy(np.array(images.pixels[:_IMAGES]))
    batch = RowBatch.all_pairs(pixels, range(len(before.tasks)))
    width = before.tasks.max_outputs
    for strategy in STRATEGIES:
        expected = make_forward(before, strategy)(batch)
        found = make_forward(after, strategy)(batch)[:, :width]
        moved = (found != expected).any(dim=1).nonzero().flatten().tolist()
        if moved:
            task = before.tasks[int(batch.task_index[moved[0]])].name
            raise ConfigError(
                f"not published: {len(moved)} of {len(batch)} answers of old tasks would change "
                f"(strategy {strategy}, first {task!r}): a fault of this program on this machine; "
                "please report it with the machine's processor and the version of torch",
                task=task,
            )
