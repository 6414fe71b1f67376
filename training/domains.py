"""Domains: tasks that are asked about the same images, and those images.

An image of one of the Visual Decathlon's data sets has labels for that data set's task and for no
other. Tasks that any image has labels for together are of one domain, so most data has one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.sources import MISSING, Labels


@dataclass(frozen=True, eq=False)
class Domains:
    """Which domain every task and every image is of; domains are numbered from 0 by their tasks."""

    of_task: NDArray[np.int64]  # [T]
    of_image: NDArray[np.int64]  # [N], -1 for an image without any label

    @property
    def count(self) -> int:
        return int(self.of_task.max()) + 1

    def tasks(self, domain: int) -> tuple[int, ...]:
        """Task indices."""
        return tuple(np.flatnonzero(self.of_task == domain).tolist())

    def images(self, domain: int) -> NDArray[np.int64]:
        """Positions of the images."""
        return np.flatnonzero(self.of_image == domain)


def find_domains(labels: Labels) -> Domains:
    """The domains of images with ``labels`` [N, T], at least one task."""
    observed = labels != MISSING
    group = np.arange(labels.shape[1])
    for together in np.unique(observed, axis=0):
        joined = np.unique(group[together])
        group[np.isin(group, joined)] = joined.min(initial=labels.shape[1])
    of_task = np.unique(group, return_inverse=True)[1].astype(np.int64)
    of_image = np.where(observed.any(axis=1), of_task[observed.argmax(axis=1)], -1)
    return Domains(of_task, of_image)
