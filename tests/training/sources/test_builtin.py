"""The built-in sample and the tasks derived from its ten classes."""

from __future__ import annotations

import numpy as np
import pytest

from training.errors import DataError, SourceError
from training.sources import MISSING, Dataset, builtin, open_source
from training.sources.fashion_tasks import fashion_tasks


@pytest.fixture(scope="module")
def fashion() -> Dataset:
    return open_source("builtin:fashion")


def test_it_has_many_tasks_each_described(fashion: Dataset) -> None:
    assert len(fashion.tasks) >= 24
    assert len(fashion.tasks.groups["class"]) == 10
    assert len(fashion.tasks[fashion.tasks.position("category")].classes) == 10
    for task in fashion.tasks:
        assert task.description.strip()
        assert "\n" not in task.description


def test_the_ten_class_tasks_are_one_vs_rest_of_the_category(fashion: Dataset) -> None:
    category = fashion.labels[:, fashion.tasks.position("category")]
    for index, column in enumerate(fashion.tasks.groups["class"]):
        assert ((category == index) == (fashion.labels[:, column] == 1)).all()


def test_attributes_follow_from_the_class(fashion: Dataset) -> None:
    category = fashion.labels[:, fashion.tasks.position("category")]
    for column in range(len(fashion.tasks)):
        for index in range(10):
            assert len(np.unique(fashion.labels[category == index, column])) == 1


def test_attributes_are_not_all_the_same_question(fashion: Dataset) -> None:
    columns = {tuple(column) for column in fashion.labels.T.tolist()}
    assert len(columns) >= 24


def test_known_answers() -> None:
    tasks, labels = fashion_tasks(np.array([9, 8, 4], np.int16), tuple("abcdefghij"))
    answers = {name: labels[:, column].tolist() for column, name in enumerate(tasks.names)}
    assert answers["footwear"] == [1, 0, 0]
    assert answers["outerwear"] == [0, 0, 1]
    assert answers["long_sleeves"] == [0, 0, 1]
    assert answers["open_shoe"] == [0, 0, 0]
    assert answers["worn_on"] == [1, 2, 0]


def test_a_missing_class_is_missing_in_every_task() -> None:
    _, labels = fashion_tasks(np.array([MISSING], np.int16), tuple("abcdefghij"))
    assert (labels == MISSING).all()


def test_all_three_splits_are_there(fashion: Dataset) -> None:
    counts = fashion.counts()
    assert counts["train"] >= 5000
    assert counts["test"] >= 1000
    assert counts["val"] > 0


def test_another_name_is_refused() -> None:
    with pytest.raises(SourceError, match=r"builtin:fashoin is unknown; .* builtin:fashion"):
        open_source("builtin:fashoin")


def test_an_incomplete_installation_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(builtin, "FOLDER", tmp_path_factory.mktemp("empty"))
    with pytest.raises(DataError, match=r"fashion\.npz: no such file"):
        open_source("builtin:fashion")
