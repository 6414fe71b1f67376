"""Batches split without losing a row."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.core.job import Job, Slice, count_rows, split
from tests.service.fakes import make_model

MODEL = make_model()


def make_job(rows: int = 100, tasks: int = 1) -> Job:
    return Job(MODEL, np.arange(tasks), rows, 0, 0.0, 1.0, 1.0, lambda job: None)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 60))
def test_split_keeps_every_row_in_order(sizes: list[int], at: int) -> None:
    slices = [Slice(make_job(), 5, 5 + size) for size in sizes]
    first, second = split(slices, at)
    assert count_rows(first) == min(at, sum(sizes))
    rows = [(id(job), row) for job, start, stop in [*first, *second] for row in range(start, stop)]
    assert rows == [(id(job), row) for job, start, stop in slices for row in range(start, stop)]
    assert all(part.stop > part.start for part in [*first, *second])


@given(st.integers(0, 9), st.integers(0, 9))
def test_rows_know_their_task_and_image(one: int, other: int) -> None:
    job = make_job(rows=9, tasks=3)
    rows = range(min(one, other), max(one, other))
    assert job.row_tasks(rows.start, rows.stop).tolist() == [row % 3 for row in rows]
    assert job.row_images(rows.start, rows.stop).tolist() == [row // 3 for row in rows]


def test_the_stage_of_a_job() -> None:
    job = make_job(rows=4)
    assert job.stage == "decode"
    job.submitted = 1.0
    assert job.stage == "queue"
    job.taken = 2
    assert job.stage == "forward"
    job.answered = 2
    assert job.stage == "queue"


def test_picked_rows_know_their_task_image_and_mates() -> None:
    job = make_job(rows=5, tasks=3)
    job.picked = np.array([1, 2, 4, 6, 8])  # of images 0, 0, 1, 2, 2
    assert job.row_tasks(0, 5).tolist() == [1, 2, 1, 0, 2]
    assert job.row_images(1, 4).tolist() == [0, 1, 2]
    assert [job.image_start(row) for row in range(5)] == [0, 0, 2, 3, 3]
