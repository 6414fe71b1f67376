"""Mini-batches with equally many images of every domain, each for its own domain's tasks."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from model.batch_norm import BatchNorm
from model.task_network import TaskNetwork
from training.config import TrainSettings
from training.domains import Domains
from training.errors import SettingsError
from training.samplers import AllDraw, Batch, Sampler, image_order


def check_domain_steps(network: TaskNetwork, settings: TrainSettings, processes: int) -> None:
    """Refuse what would normalise training otherwise than the finished network.

    Raises:
        SettingsError: names the settings to change.
    """
    shared = any(isinstance(m, BatchNorm) and not m.per_task for m in network.modules())
    if shared and settings.compute == "cut" and len(network.tasks) > 1:
        raise SettingsError(
            "setting 'sampler' is 'domains' and 'compute' is 'cut': it runs domain by domain, and "
            f"with norm {settings.norm!r} some layers' batch-norm statistics are those of all "
            "domains together; set compute to masked"
        )
    if processes > 1:
        raise SettingsError(
            f"setting 'sampler' is 'domains' and {processes} processes train: the share of one of "
            "them may lack a domain, whose statistics the others would wait for; train with one"
        )


class DomainSampler(Sampler):
    """Every domain has the same say however many images it has: small ones are seen more often.

    Each is shuffled anew whenever all its images have been seen. An epoch is as many images as
    there are, of whatever domain.
    """

    def __init__(self, domains: Domains, batch_size: int, seed: int) -> None:
        """Raises DataError for fewer than two images: batch norm needs a pair."""
        self._share = max(1, batch_size // domains.count)
        self._members = [domains.images(domain) for domain in range(domains.count)]
        images = int((domains.of_image >= 0).sum())
        tasks = len(domains.of_task)
        super().__init__(images, self._share * domains.count, AllDraw(tasks), seed)
        self._tasks = tuple(range(tasks))
        self._order = lru_cache(maxsize=2 * domains.count)(self._draw_order)

    @property
    def steps_per_epoch(self) -> int:
        return max(1, self._images // self.batch_size)

    @property
    def batch_size(self) -> int:
        return self._share * len(self._members)

    def batch(self, step: int) -> Batch:
        """Step ``step`` of the run, counted from 0; domains take turns from image to image."""
        positions = np.arange(step * self._share, (step + 1) * self._share)
        drawn = [self._drawn(domain, positions) for domain in range(len(self._members))]
        return Batch(np.stack(drawn, axis=1).ravel(), self._tasks, labelled_only=True)

    def _drawn(self, domain: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Images at ``positions`` of the domain's endless sequence."""
        rounds, places = np.divmod(positions, len(self._members[domain]))
        orders = [self._order(domain, int(number)) for number in rounds]
        return np.array([order[place] for order, place in zip(orders, places, strict=True)])

    def _draw_order(self, domain: int, number: int) -> NDArray[np.int64]:
        members = self._members[domain]
        return members[image_order(len(members), self._seed, domain, number)]
