"""What is asked: pictures and task lists; and whether the answers are right."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.load import HOST, Prepared
from benchmarks.peers.base import Peer
from benchmarks.samples import Run

ALL_TASKS = "*"
PREPARED_REQUESTS = 512

# Servers compute the same float32 sums in another order; JSON carries more digits than this.
PROBABILITY_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Workload:
    """One kind of traffic.

    ``all``: every request asks every task of its picture. ``zipf``: every request asks
    ``tasks_per_request`` different tasks, the k-th most popular one with a weight of 1/k^exponent.
    """

    name: Literal["all", "zipf"]
    clients: int  # of the closed loop
    tasks_per_request: int = 0  # 0: all
    exponent: float = 1.0

    def selectors(self, tasks: Sequence[str], count: int, seed: int) -> list[str]:
        """``count`` task lists, comma-separated."""
        if self.tasks_per_request == 0:
            return [ALL_TASKS] * count
        generator = random.Random(seed)
        popular = list(tasks)
        generator.shuffle(popular)  # popularity must not follow the order in the bundle
        weights = [1 / rank**self.exponent for rank in range(1, len(popular) + 1)]
        return [
            ",".join(_distinct(generator, popular, weights, self.tasks_per_request))
            for _ in range(count)
        ]


WORKLOADS = {
    "all": Workload("all", clients=8),
    "zipf": Workload("zipf", clients=32, tasks_per_request=1),
}


@dataclass(frozen=True)
class Asked:
    """Key of a prepared request: the picture's number and the tasks asked."""

    image: int
    tasks: str


def prepare(
    peer: Peer,
    workload: Workload,
    port: int,
    images: Sequence[bytes],
    tasks: Sequence[str],
    seed: int = 0,
    count: int = PREPARED_REQUESTS,
) -> list[Prepared]:
    """``count`` requests in the peer's own format; the same pictures and tasks for every peer."""
    prepared = []
    for number, selector in enumerate(workload.selectors(tasks, count, seed)):
        image = number % len(images)
        request = peer.request(images[image], selector)
        rows = len(tasks) if selector == ALL_TASKS else selector.count(",") + 1
        data = request.encoded(f"{HOST}:{port}")
        prepared.append(Prepared(data, rows, Asked(image, selector)))
    return prepared


@dataclass(frozen=True)
class Reference:
    """Right answers: the masked network, run on its own."""

    tasks: Sequence[str]
    probabilities: Sequence[Mapping[str, float]]  # by picture; the first few pictures only


@dataclass
class Verdict:
    """What the answers of a run were worth."""

    checked: int = 0
    compared: int = 0  # probabilities held against the reference
    wrong: int = 0
    largest_difference: float = 0.0
    first_problem: str | None = field(default=None)

    def fail(self, problem: str) -> None:
        self.wrong += 1
        self.first_problem = self.first_problem or problem


def check_answers(peer: Peer, run: Run, reference: Reference) -> Verdict:
    """Every kept answer names the tasks asked, each with a label and the right probability."""
    verdict = Verdict()
    for asked, body in run.answers:
        verdict.checked += 1
        try:
            found = {str(entry["task"]): entry for entry in peer.predictions(body)}
        except (ValueError, KeyError, TypeError, IndexError) as error:
            verdict.fail(f"unreadable answer ({error!r}): {body[:200]!r}")
            continue
        names = reference.tasks if asked.tasks == ALL_TASKS else asked.tasks.split(",")
        if list(found) != list(names):
            verdict.fail(f"asked {len(names)} tasks, answered {list(found)[:5]}...")
            continue
        _compare(found, asked, reference, verdict)
    return verdict


def _compare(
    found: Mapping[str, Mapping[str, Any]], asked: Asked, reference: Reference, verdict: Verdict
) -> None:
    known = reference.probabilities
    expected = known[asked.image] if asked.image < len(known) else None
    for name, entry in found.items():
        probability, label = entry.get("probability"), entry.get("label")
        if not isinstance(label, str) or not isinstance(probability, float | int):
            verdict.fail(f"task {name}: label {label!r}, probability {probability!r}")
            return
        if not 0.0 <= probability <= 1.0:
            verdict.fail(f"task {name}: probability {probability}")
            return
        if expected is not None:
            verdict.compared += 1
            difference = abs(probability - expected[name])
            verdict.largest_difference = max(verdict.largest_difference, difference)
            if difference > PROBABILITY_TOLERANCE:
                verdict.fail(f"task {name}: {probability}, the reference says {expected[name]}")
                return


def _distinct(
    generator: random.Random, names: Sequence[str], weights: Sequence[float], count: int
) -> list[str]:
    chosen: dict[str, None] = {}
    while len(chosen) < min(count, len(names)):
        chosen[generator.choices(names, weights)[0]] = None
    return list(chosen)
