from __future__ import annotations

import numpy as np
import pytest

from training.domain_sampler import DomainSampler
from training.domains import find_domains
from training.sources import MISSING

_ = MISSING
LABELS = np.array(
    [[0, _, _, 1], [1, _, _, _], [_, 0, _, _], [_, _, 3, _], [_, 2, _, _], [_, _, _, _]],
    dtype=np.int16,
)
"""Tasks 0 and 3 have an image in common; the last image has no label."""


def test_tasks_that_share_an_image_are_of_one_domain() -> None:
    domains = find_domains(LABELS)
    assert domains.of_task.tolist() == [0, 1, 2, 0]
    assert domains.of_image.tolist() == [0, 0, 1, 2, 1, -1]
    assert domains.count == 3
    assert domains.tasks(0) == (0, 3)
    assert domains.images(1).tolist() == [2, 4]


def test_tasks_are_joined_by_way_of_others() -> None:
    labels = np.full((3, 4), MISSING, np.int16)
    labels[0, [0, 1]] = labels[1, [2, 3]] = labels[2, [1, 2]] = 0
    assert find_domains(labels).count == 1
    assert find_domains(labels[:2]).of_task.tolist() == [0, 0, 1, 1]


def test_missing_labels_alone_make_no_domain() -> None:
    labels = np.random.default_rng(0).integers(MISSING, 2, (50, 6)).astype(np.int16)
    assert find_domains(labels).count == 1


@pytest.fixture
def sampler() -> DomainSampler:
    """30 images of one domain, 5 of another."""
    labels = np.full((35, 2), MISSING, np.int16)
    labels[:30, 0] = labels[30:, 1] = 0
    return DomainSampler(find_domains(labels), batch_size=7, seed=3)


def test_every_step_has_as_many_images_of_each_domain(sampler: DomainSampler) -> None:
    assert sampler.batch_size == 6
    assert sampler.steps_per_epoch == 5
    for step in range(12):
        batch = sampler.batch(step)
        assert batch.tasks == (0, 1)
        assert batch.labelled_only
        assert (batch.images[0::2] < 30).all()
        assert (batch.images[1::2] >= 30).all()


def test_a_domain_is_seen_whole_before_any_of_it_again(sampler: DomainSampler) -> None:
    first = np.concatenate([sampler.batch(step).images[0::2] for step in range(10)])
    assert sorted(first.tolist()) == list(range(30))
    second = np.concatenate([sampler.batch(step).images[1::2] for step in range(5)])
    rounds = second.reshape(3, 5)
    assert all(sorted(one.tolist()) == list(range(30, 35)) for one in rounds)
    assert len({tuple(one.tolist()) for one in rounds}) > 1


def test_steps_depend_on_their_number_alone(sampler: DomainSampler) -> None:
    later = sampler.batch(9).images
    for step in range(9):
        sampler.batch(step)
    assert np.array_equal(sampler.batch(9).images, later)
