"""Workloads and the judgement of answers."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from benchmarks.images import jpeg, jpegs
from benchmarks.peers.base import Peer, Request
from benchmarks.registry import PEERS
from benchmarks.samples import Run
from benchmarks.traffic import Asked, Reference, Workload, check_answers, prepare
from model.config import PreprocessConfig
from model.preprocess import load_image

TASKS = [f"task-{number}" for number in range(20)]
REFERENCE = Reference(TASKS[:2], [{"task-0": 0.25, "task-1": 0.75}])


class Echo(Peer):
    name = "echo"

    def request(self, jpeg: bytes, tasks: str) -> Request:
        return Request(f"/predict?tasks={tasks}", jpeg)


def test_zipf_asks_popular_tasks_more_often_in_proportion() -> None:
    workload = Workload("zipf", clients=1, tasks_per_request=1, exponent=1.0)
    counts = Counter(workload.selectors(TASKS, 50_000, seed=0))
    by_popularity = [count for _, count in counts.most_common()]
    assert set(counts) == set(TASKS)
    assert by_popularity[0] / by_popularity[1] == pytest.approx(2.0, rel=0.1)
    assert by_popularity[0] / by_popularity[9] == pytest.approx(10.0, rel=0.15)


def test_several_tasks_of_one_request_are_different() -> None:
    workload = Workload("zipf", clients=1, tasks_per_request=5)
    for selector in workload.selectors(TASKS, 200, seed=0):
        assert len(set(selector.split(","))) == 5


def test_every_peer_is_asked_the_same() -> None:
    workload = Workload("zipf", clients=1, tasks_per_request=2)
    images = jpegs(3, 32, 32)
    asked = {
        name: [(one.key, one.rows) for one in prepare(peer, workload, 1, images, TASKS, count=20)]
        for name, peer in PEERS.items()
    }
    assert len(asked) == 8
    assert len({repr(one) for one in asked.values()}) == 1
    assert [rows for _, rows in asked["ours"]] == [2] * 20


def test_a_prepared_request_carries_the_picture_and_its_length() -> None:
    image = jpeg(0, 32, 32)
    one = prepare(Echo(), Workload("all", 1), 80, [image], TASKS, count=1)[0]
    head, _, body = one.data.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /predict?tasks=* HTTP/1.1\r\nHost: 127.0.0.1:80\r\n")
    assert b"Content-Length: %d" % len(image) in head
    assert body == image
    assert one.rows == len(TASKS)


def test_pictures_are_real_jpegs_and_all_different() -> None:
    files = jpegs(4, 40, 30)
    loaded = [load_image(one, PreprocessConfig(height=30, width=40)) for one in files]
    assert {(one.original_width, one.original_height) for one in loaded} == {(40, 30)}
    assert len({one.pixels.tobytes() for one in loaded}) == 4


def answer(**probabilities: float) -> bytes:
    entries: list[dict[str, Any]] = [
        {"task": name.replace("_", "-"), "label": "no", "probability": value}
        for name, value in probabilities.items()
    ]
    return json.dumps({"predictions": entries}).encode()


def verdict_on(body: bytes, asked: Asked | None = None) -> tuple[int, str]:
    run = Run(answers=[(asked or Asked(0, "*"), body)])
    verdict = check_answers(Echo(), run, REFERENCE)
    assert verdict.checked == 1
    return verdict.wrong, verdict.first_problem or ""


def test_right_answers_pass() -> None:
    assert verdict_on(answer(task_0=0.25, task_1=0.750001)) == (0, "")
    assert verdict_on(answer(task_1=0.75), Asked(0, "task-1")) == (0, "")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"not json", "unreadable"),
        (b'{"other": 1}', "unreadable"),
        (answer(task_0=0.25), "asked 2 tasks"),
        (answer(task_1=0.75, task_0=0.25), "asked 2 tasks"),
        (answer(task_0=0.25, task_1=0.76), "the reference says 0.75"),
        (answer(task_0=0.25, task_1=1.5), "probability 1.5"),
        (b'{"predictions": [{"task": "task-0"}, {"task": "task-1"}]}', "label None"),
    ],
)
def test_wrong_answers_are_named(body: bytes, says: str) -> None:
    wrong, problem = verdict_on(body)
    assert wrong == 1
    assert says in problem


def test_pictures_without_a_reference_are_checked_for_form_only() -> None:
    assert verdict_on(answer(task_0=0.9, task_1=0.1), Asked(7, "*")) == (0, "")
    assert verdict_on(answer(task_0=0.9, task_1=-0.1), Asked(7, "*"))[0] == 1
