"""Samplers: which tasks are seen how often, and that a step depends on seed and number only."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.conftest import tiny
from training.errors import DataError
from training.samplers import CoveringDraw, PaperDraw, Sampler, make_sampler, step_generator


def test_paper_draws_one_task_per_batch_uniformly() -> None:
    sampler = make_sampler(tiny(sampler="paper", batch_size=2), images=4000, tasks=8)
    drawn = [sampler.batch(step).tasks for step in range(sampler.steps_per_epoch)]
    assert {len(tasks) for tasks in drawn} == {1}
    counts = Counter(tasks[0] for tasks in drawn)
    assert set(counts) == set(range(8))
    assert all(abs(count - 250) < 60 for count in counts.values())
    assert len(set(counts.values())) > 1  # with replacement: not dealt evenly


@given(
    tasks=st.integers(1, 40),
    per_step=st.integers(1, 50),
    steps=st.integers(1, 60),
    seed=st.integers(0, 5),
)
def test_covering_sees_every_task_equally_often(
    tasks: int, per_step: int, steps: int, seed: int
) -> None:
    drawn = CoveringDraw(tasks, per_step)(steps, np.random.default_rng(seed))
    assert len(drawn) == steps
    assert all(len(set(hand)) == len(hand) >= min(per_step, tasks) for hand in drawn)
    counts = Counter(task for hand in drawn for task in hand)
    assert set(counts) == set(range(tasks))
    assert max(counts.values()) - min(counts.values()) <= 1


def test_paper_never_has_a_task_twice_in_a_step() -> None:
    for hand in PaperDraw(3, 5)(20, np.random.default_rng(0)):
        assert sorted(hand) == [0, 1, 2]


def test_all_has_every_task_in_every_step() -> None:
    sampler = make_sampler(tiny(sampler="all"), images=20, tasks=5)
    assert sampler.batch(7).tasks == (0, 1, 2, 3, 4)
    assert sampler.every_task
    assert not make_sampler(tiny(sampler="paper"), images=20, tasks=1).every_task


def test_an_epoch_sees_every_image_once_and_the_next_in_another_order() -> None:
    sampler = make_sampler(tiny(batch_size=8), images=24, tasks=2)
    first = np.concatenate([sampler.batch(step).images for step in range(3)])
    second = np.concatenate([sampler.batch(step).images for step in range(3, 6)])
    assert sorted(first) == sorted(second) == list(range(24))
    assert first.tolist() != second.tolist()


def test_a_step_does_not_depend_on_what_was_asked_before() -> None:
    one, other = (make_sampler(tiny(sampler="covering"), 100, 7) for _ in range(2))
    for step in range(30):
        one.batch(step)
    late, fresh = one.batch(31), other.batch(31)
    assert late.images.tolist() == fresh.images.tolist()
    assert late.tasks == fresh.tasks


def test_seeds_differ() -> None:
    one, other = (make_sampler(tiny(seed=seed), 100, 7) for seed in (0, 1))
    assert one.batch(0).images.tolist() != other.batch(0).images.tolist()


def test_few_images_make_one_smaller_batch() -> None:
    sampler = make_sampler(tiny(batch_size=64), images=5, tasks=1)
    assert sampler.steps_per_epoch == 1
    assert sorted(sampler.batch(0).images) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("images", [0, 1])
def test_batch_norm_needs_two_images(images: int) -> None:
    with pytest.raises(DataError, match="training needs at least two"):
        Sampler(images, 8, PaperDraw(1, 1), seed=0)


def test_augmentation_draws_follow_the_step() -> None:
    assert step_generator(0, 5).initial_seed() == step_generator(0, 5).initial_seed()
    assert (
        len({step_generator(seed, step).initial_seed() for seed in (0, 1) for step in (0, 1)}) == 4
    )
