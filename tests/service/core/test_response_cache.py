"""The cache of answers: what it knows, what it forgets, and what it never mixes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import TaskRouteError
from service.core.decisions import Indices, Logits
from service.core.errors import ForwardError
from service.core.job import Job
from service.core.response_cache import ResponseCache, pixel_digests
from service.core.rows_asked import RowsAsked
from tests.service.fakes import image, make_model

MODEL = make_model()
OTHER = make_model(version=2)
COLUMNS = MODEL.max_outputs


def logits_of(tasks: list[int], shift: float = 0.0) -> Logits:
    return np.tile(np.array(tasks, np.float32)[:, None] + np.float32(shift), (1, COLUMNS))


def index(tasks: list[int]) -> Indices:
    return np.array(tasks, np.int64)


def known(cache: ResponseCache, digest: bytes, tasks: list[int]) -> dict[int, float]:
    found, logits = cache.find(MODEL, digest, index(tasks))
    return {tasks[position]: float(logits[position, 0]) for position in np.flatnonzero(found)}


def test_what_was_kept_is_found_in_any_order_and_added_to() -> None:
    cache = ResponseCache(10_000)
    cache.keep(MODEL, b"a", index([2, 0]), logits_of([2, 0]))
    cache.keep(MODEL, b"a", index([1, 2]), logits_of([1, 2]))
    assert known(cache, b"a", [3, 2, 1, 0]) == {2: 2.0, 1: 1.0, 0: 0.0}
    assert known(cache, b"b", [0]) == {}
    assert len(cache) == 1


def test_another_version_is_another_answer() -> None:
    cache = ResponseCache(10_000)
    cache.keep(MODEL, b"a", index([0]), logits_of([0]))
    cache.keep(OTHER, b"a", index([0]), logits_of([0], shift=7.0))
    assert known(cache, b"a", [0]) == {0: 0.0}
    assert cache.find(OTHER, b"a", index([0]))[1][0, 0] == 7.0


def test_the_least_recently_used_image_goes() -> None:
    cache = ResponseCache(2200)
    for name in (b"a", b"b", b"c", b"d"):
        cache.keep(MODEL, name, index([0]), logits_of([0]))
        assert known(cache, b"a", [0])  # and so is used
    assert [bool(known(cache, name, [0])) for name in (b"a", b"b", b"c", b"d")] == [
        True,
        False,
        True,
        True,
    ]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sets(st.integers(0, 3), max_size=4)), max_size=30),
    st.integers(0, 4000),
)
def test_bytes_are_counted_and_bounded(kept: list[tuple[int, set[int]]], limit: int) -> None:
    cache = ResponseCache(limit)
    for name, tasks in kept:
        cache.keep(MODEL, bytes([name]), index(list(tasks)), logits_of(list(tasks)))
        assert cache.bytes <= limit
        assert cache.bytes == sum(entry.bytes for entry in cache._entries.values())


def test_pixels_are_told_apart_whatever_their_layout() -> None:
    picture = np.arange(28 * 28 * 3, dtype=np.uint32).astype(np.uint8).reshape(28, 28, 3)
    flipped = picture[:, ::-1]
    same, mirrored, back = pixel_digests([picture, flipped, flipped[:, ::-1]])
    assert same == back != mirrored


class TestRowsAsked:
    """A request's grid: cached rows, rows that are run, rows that fail."""

    def asked(self, cache: ResponseCache, values: list[int], tasks: list[int]) -> RowsAsked:
        images = [image(value) for value in values]
        return RowsAsked(cache, MODEL, index(tasks), images, pixel_digests(images))

    def job(self, asked: RowsAsked, errors: dict[int, TaskRouteError] | None = None) -> Job:
        job = Job(MODEL, index([0]), asked.misses, 0, 0.0, 1.0, 1.0, lambda _: None)
        job.logits = np.tile(np.arange(asked.misses, dtype=np.float32)[:, None], (1, COLUMNS))
        job.errors = errors or {}
        return job

    def test_everything_is_run_the_first_time_and_nothing_the_second(self) -> None:
        cache = ResponseCache(100_000)
        first = self.asked(cache, [10, 20], [3, 0, 1])
        assert first.picked.tolist() == [0, 1, 2, 3, 4, 5]
        assert not len(first.hits)
        logits, _ = first.complete(self.job(first))
        again = self.asked(cache, [20, 10], [0, 1, 3])
        assert (again.misses, again.images) == (0, [])
        assert sorted(again.hits.tolist()) == [0, 0, 1, 1, 3, 3]
        found, _ = again.complete(self.job(again))
        np.testing.assert_array_equal(found[:, 0], [4, 5, 3, 1, 2, 0])
        np.testing.assert_array_equal(np.sort(found[:, 0]), np.sort(logits[:, 0]))

    def test_only_what_is_missing_is_run_image_by_image(self) -> None:
        cache = ResponseCache(100_000)
        [a, b, c] = pixel_digests([image(1), image(2), image(3)])
        cache.keep(MODEL, a, index([0, 1, 2]), logits_of([0, 1, 2], 100))
        cache.keep(MODEL, b, index([1]), logits_of([1], 200))
        cache.keep(MODEL, c, index([0, 2]), logits_of([0, 2], 300))
        asked = self.asked(cache, [1, 2, 3], [0, 1, 2])
        assert [picture[0, 0, 0] for picture in asked.images] == [2, 3]
        assert asked.picked.tolist() == [0, 2, 4]
        logits, _ = asked.complete(self.job(asked))
        assert logits[:, 0].tolist() == [100, 101, 102, 0, 201, 1, 300, 2, 302]

    def test_a_row_that_failed_is_not_remembered(self) -> None:
        cache = ResponseCache(100_000)
        asked = self.asked(cache, [1, 2], [0, 1])
        error = ForwardError("no")
        _, errors = asked.complete(self.job(asked, {2: error}))
        assert errors == {2: error}
        assert self.asked(cache, [1, 2], [0, 1]).picked.tolist() == [0]

    @pytest.mark.parametrize("limit", [0, 700])
    def test_a_cache_too_small_for_the_request_still_answers(self, limit: int) -> None:
        cache = ResponseCache(limit)
        asked = self.asked(cache, [1, 2, 3], [0, 1])
        logits, _ = asked.complete(self.job(asked))
        assert logits[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
