"""Resampled figures against figures of the images really repeated, and what intervals are."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from model.tasks import Task
from training.bootstrap import Intervals, bootstrap, resample_counts, resampled_figures
from training.metrics import AVERAGED, mean_figures, task_figures
from training.sources import MISSING

HAT = Task(name="hat", threshold=0.35)
KIND = Task(name="kind", group="other", classes=("a", "b", "c", "d"))


def answers(count: int, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Coarse probabilities, so that many are equal, with some labels missing."""
    generator = np.random.default_rng(seed)
    hat = generator.integers(0, 11, count) / 10
    kind = generator.integers(1, 6, (count, 4)).astype(np.float32) ** 2
    labels = np.stack(
        [generator.random(count) < hat, generator.integers(0, 3, count)], axis=1
    ).astype(np.int16)
    labels[generator.random((count, 2)) < 0.1] = MISSING
    return [hat.astype(np.float32), kind / kind.sum(axis=1, keepdims=True)], labels


@pytest.mark.parametrize(("index", "task"), [(0, HAT), (1, KIND)])
def test_each_resample_has_the_figures_of_its_images(index: int, task: Task) -> None:
    probabilities, labels = answers(40)
    counts = resample_counts(40, 12, seed=3)
    found = resampled_figures(task, probabilities[index], labels[:, index], counts)
    assert tuple(found) == AVERAGED
    for column in range(12):
        images = np.repeat(np.arange(40), counts[:, column].astype(int))
        expected = task_figures(task, probabilities[index][images], labels[images, index])
        for name in AVERAGED:
            value = getattr(expected, name)
            wanted = np.nan if value is None else value
            assert found[name][column] == pytest.approx(wanted, abs=1e-5, nan_ok=True), name


@pytest.mark.parametrize("index", [0, 1])
def test_resamples_without_labels_or_with_one_class_say_so(index: int) -> None:
    probabilities, labels = answers(6, seed=1)
    labels[:] = [[0, 0], [0, 0], [1, 1], [1, 2], [MISSING, MISSING], [MISSING, MISSING]]
    counts = np.array(
        [[3, 0, 0], [3, 0, 2], [0, 0, 2], [0, 0, 2], [0, 3, 0], [0, 3, 0]], np.float32
    )
    task = (HAT, KIND)[index]
    found = resampled_figures(task, probabilities[index], labels[:, index], counts)
    assert np.isnan(found["auroc"]).tolist() == [True, True, False]
    assert np.isnan(found["recall"]).tolist() == [True, True, False]
    assert np.isnan(found["accuracy"]).tolist() == [False, True, False]
    assert found["majority"][0] == 1.0


def test_resamples_draw_with_replacement_from_a_seed() -> None:
    counts = resample_counts(50, 30, seed=1)
    assert counts.shape == (50, 30)
    assert (counts.sum(axis=0) == 50).all()
    assert counts.max() > 1
    assert (counts == resample_counts(50, 30, seed=1)).all()
    assert (counts != resample_counts(50, 30, seed=2)).any()


def evaluated(count: int, seed: int = 0) -> Intervals:
    return bootstrap([HAT, KIND], *answers(count, seed))


def test_intervals_hold_the_figures_and_narrow_with_images() -> None:
    probabilities, labels = answers(400)
    figures = [
        task_figures(task, probabilities[index], labels[:, index])
        for index, task in enumerate((HAT, KIND))
    ]
    few, many = evaluated(400), evaluated(4_000)
    for name in ("accuracy", "average_precision", "auroc", "f1"):
        for interval, value in (
            (few.tasks["hat"][name], getattr(figures[0], name)),
            (few.tasks["kind"][name], getattr(figures[1], name)),
            (few.macro[name], mean_figures(figures)[name]),
        ):
            assert interval is not None
            assert value is not None
            assert interval[0] < value < interval[1]
        small, large = many.macro[name], few.macro[name]
        assert small is not None
        assert large is not None
        assert small[1] - small[0] < 0.5 * (large[1] - large[0])


def test_figures_that_noise_only_raises_lie_within_their_intervals() -> None:
    probabilities, labels = answers(200)
    calm = bootstrap([HAT], probabilities[:1], labels[:, :1]).tasks["hat"]
    figures = task_figures(HAT, probabilities[0], labels[:, 0])
    for name in ("majority", "ece", "rate_error"):
        interval, value = calm[name], getattr(figures, name)
        assert interval is not None
        assert interval[0] <= value + 1e-6
        assert value - 1e-6 <= interval[1]


def test_an_accuracys_interval_is_the_binomial_one() -> None:
    count = 1_000
    scores = np.ones(count, np.float32)
    labels = np.ones((count, 1), np.int16)
    labels[:200] = 0
    interval = bootstrap([HAT], [scores], labels, resamples=2_000).tasks["hat"]["accuracy"]
    spread = 1.96 * np.sqrt(0.8 * 0.2 / count)
    assert interval == pytest.approx((0.8 - spread, 0.8 + spread), abs=0.003)


def test_groups_have_their_own_and_figures_that_do_not_exist_have_none() -> None:
    intervals = evaluated(60)
    assert list(intervals.groups) == ["default", "other"]
    assert intervals.groups["default"] == intervals.tasks["hat"]
    assert intervals.tasks["kind"]["rate_error"] is None
    json.dumps(intervals.to_json(), allow_nan=False)


def test_forty_tasks_take_no_time_to_speak_of() -> None:
    generator = np.random.default_rng(0)
    labels = (generator.random((2_000, 40)) < 0.2).astype(np.int16)
    probabilities = [generator.random(2_000).astype(np.float32) for _ in range(40)]
    tasks = [Task(name=f"t{index}") for index in range(40)]
    started = time.process_time()
    bootstrap(tasks, probabilities, labels, resamples=200)
    assert time.process_time() - started < 5  # about one second; minutes without vectors
