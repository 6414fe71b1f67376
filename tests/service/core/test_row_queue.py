"""Properties of the queue: what leaves it, in which order, in which amounts."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.core.job import Job, Slice, count_rows
from service.core.row_queue import RowQueue
from service.core.served import ServedModel
from tests.service.fakes import make_model

MODELS = [make_model(version=1), make_model(version=2)]


def make_job(
    urgency: float, images: int = 1, tasks: int = 1, model: ServedModel = MODELS[0]
) -> Job:
    deadline = urgency + 1.0
    return Job(model, np.arange(tasks), images * tasks, 0, 0.0, deadline, urgency, lambda job: None)


jobs = st.lists(
    st.builds(
        make_job,
        st.integers(0, 3).map(float),
        st.integers(1, 5),
        st.integers(1, 7),
        st.sampled_from(MODELS),
    ),
    min_size=1,
    max_size=15,
)


enoughs = st.none() | st.integers(1, 12)


def drain(
    queue: RowQueue, limit: int, share: float, enough: int | None = None
) -> list[list[Slice]]:
    batches = []
    while (head := queue.head()) is not None:
        batches.append(queue.take(head.model, limit, share, enough))
        assert batches[-1], "a batch is never empty, or the engine would spin"
    return batches


@given(jobs, st.integers(1, 12), st.sampled_from([0.1, 0.5, 1.0]), enoughs)
def test_every_row_leaves_exactly_once_in_batches_of_one_model_within_the_limit(
    given_jobs: list[Job], limit: int, share: float, enough: int | None
) -> None:
    queue = RowQueue()
    for job in given_jobs:
        queue.add(job)
    batches = drain(queue, limit, share, enough)
    for batch in batches:
        assert count_rows(batch) <= limit
        assert len({part.job.model for part in batch}) == 1
        assert len({part.job for part in batch}) == len(batch)
    for job in given_jobs:
        rows = [r for batch in batches for p in batch if p.job is job for r in range(*p[1:])]
        assert rows == list(range(job.rows))
    assert len(queue) == 0
    assert all(queue.rows(model) == 0 for model in MODELS)


@given(jobs, st.integers(1, 12), enoughs)
def test_a_job_begins_only_when_all_more_urgent_ones_of_its_model_have(
    given_jobs: list[Job], limit: int, enough: int | None
) -> None:
    queue = RowQueue()
    for job in given_jobs:
        queue.add(job)
    begun = []
    for batch in drain(queue, limit, 0.5, enough):
        begun += [part.job for part in batch if part.start == 0]
    for model in MODELS:
        mine = [job for job in given_jobs if job.model is model]
        order = sorted(mine, key=lambda job: job.urgency)  # stable: arrival among equals
        assert [job for job in begun if job.model is model] == order


@given(jobs, st.integers(1, 12), st.sampled_from([0.1, 0.3, 0.5]))
def test_nobody_exceeds_its_share_while_others_are_left_out(
    given_jobs: list[Job], limit: int, share: float
) -> None:
    queue = RowQueue()
    for job in given_jobs:
        queue.add(job)
    while (head := queue.head()) is not None:
        waiting = [job for job in queue if job.model is head.model]
        batch = queue.take(head.model, limit, share)
        served = {part.job for part in batch}
        left_out = [job for job in waiting if job not in served]
        fair = max(1, math.floor(share * limit))
        for part in batch:
            size = part.job.tasks_per_image
            if left_out and part.stop - part.start > max(fair, size if size <= limit else 0):
                # Only because the next in line did not fit into what was left.
                room = limit - count_rows(batch) + part.stop - part.start - fair
                assert left_out[0].tasks_per_image > room - (part.stop - part.start - fair)


@given(jobs, st.integers(1, 12), enoughs)
def test_an_image_that_fits_is_never_torn_apart(
    given_jobs: list[Job], limit: int, enough: int | None
) -> None:
    queue = RowQueue()
    for job in given_jobs:
        queue.add(job)
    for batch in drain(queue, limit, 0.5, enough):
        for job, start, stop in batch:
            if job.tasks_per_image <= limit:
                assert start % job.tasks_per_image == 0
                assert stop % job.tasks_per_image == 0


@given(jobs, st.integers(1, 12), st.integers(1, 12))
def test_what_is_enough_bounds_a_batch_of_several_jobs_or_the_first_image_does(
    given_jobs: list[Job], limit: int, enough: int
) -> None:
    queue = RowQueue()
    for job in given_jobs:
        queue.add(job)
    while (head := queue.head()) is not None:
        others = sum(job.model is head.model for job in queue) > 1
        rows = count_rows(queue.take(head.model, limit, 0.5, enough))
        assert rows <= (max(enough, head.tasks_per_image) if others else limit)


@given(jobs, st.data())
def test_removing_takes_what_has_not_left(given_jobs: list[Job], data: st.DataObject) -> None:
    queue = RowQueue()
    for job in given_jobs:
        queue.add(job)
    head = queue.head()
    assert head is not None
    queue.take(head.model, 5, 0.5)
    gone = data.draw(st.sampled_from(given_jobs))
    was_waiting = gone.pending > 0
    before = queue.rows(gone.model)
    assert queue.remove(gone) is was_waiting
    assert queue.rows(gone.model) == before - gone.pending
    assert gone not in list(queue)
    assert not queue.remove(gone)


def test_expired_jobs_are_found_behind_more_urgent_ones_that_are_not() -> None:
    queue = RowQueue()
    aged, late, fresh = make_job(1.0), make_job(2.0), make_job(9.0)
    aged.deadline, late.deadline = 100.0, 2.0
    for job in (fresh, late, aged):
        queue.add(job)
    assert queue.expired(5.0) == [late]
