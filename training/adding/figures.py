"""Metrics and model card of a version to which tasks were added: the parent's, and theirs."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.tasks import Task, TaskSet
from training.bootstrap import Interval
from training.metrics import AVERAGED, TaskFigures


@dataclass(frozen=True)
class Added:
    """A new task with its decision, and its figures on held-out images."""

    task: Task
    figures: TaskFigures
    intervals: Mapping[str, Interval | None] | None


def metrics_with(
    parent: Mapping[str, Any], tasks: TaskSet, added: Sequence[Added], about: Mapping[str, Any]
) -> dict[str, Any]:
    """The parent's metrics with the new tasks' figures in them and in the means."""
    metrics = copy.deepcopy(dict(parent))
    figures = metrics.setdefault("tasks", {})
    for one in added:
        figures[one.task.name] = {"group": one.task.group, **one.figures.to_json()}
        if (intervals := metrics.get("intervals")) and one.intervals is not None:
            intervals["tasks"][one.task.name] = dict(one.intervals)
    names = [one.task.name for one in added]
    metrics["added"] = [*metrics.get("added", []), {"tasks": names, **about}]
    return with_means(metrics, tasks)


def with_means(metrics: dict[str, Any], tasks: TaskSet) -> dict[str, Any]:
    """``metrics`` with figures of ``tasks`` only, and means and intervals that fit them.

    Intervals of means that are over other tasks than before are dropped: they need the images.
    """
    known = metrics.get("tasks", {})
    kept = {task.name: known[task.name] | {"group": task.group}
            for task in tasks if task.name in known}  # fmt: skip
    metrics["tasks"] = kept
    metrics["macro"] = _means(kept.values())
    groups = {task.group: [] for task in tasks if task.name in kept}  # type: dict[str, list[Any]]
    for figure in kept.values():
        groups[figure["group"]].append(figure)
    metrics["groups"] = {name: _means(members) for name, members in groups.items()}
    if intervals := metrics.get("intervals"):
        intervals["tasks"] = {n: one for n, one in intervals["tasks"].items() if n in kept}
        nothing = dict.fromkeys(AVERAGED)
        intervals["macro"] = nothing
        intervals["groups"] = dict.fromkeys(groups, nothing)
    return metrics


def card_with(card: str, added: Sequence[Added], about: Mapping[str, Any]) -> str:
    """The parent's model card with a section about the new tasks."""
    lines = [
        f"## Added to version {about['parent']}",
        f"From `{about['source']}`, on frozen shared weights, in {about['seconds']:.0f} s. What is "
        "said above is about the version that was trained.",
        "",
        "| task | group | held-out images | average precision | accuracy | majority |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        *(_row(one) for one in added),
    ]
    return card.rstrip() + "\n\n" + "\n".join(lines) + "\n"


def _row(added: Added) -> str:
    one = added.figures
    shown = [_cell(value) for value in (one.average_precision, one.accuracy, one.majority)]
    return f"| {added.task.name} | {added.task.group} | {one.images} | {' | '.join(shown)} |"


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _means(figures: Iterable[Mapping[str, Any]]) -> dict[str, float | None]:
    listed, means = list(figures), {}  # type: list[Mapping[str, Any]], dict[str, float | None]
    for name in AVERAGED:
        values = [value for one in listed if (value := one.get(name)) is not None]
        means[name] = float(np.mean(values)) if values else None
    return means


def renamed(parent: Mapping[str, Any], old: str, new: str, tasks: TaskSet) -> dict[str, Any]:
    """The parent's metrics with one task under its new name and group."""
    metrics = copy.deepcopy(dict(parent))
    for figures in (metrics.get("tasks", {}), (metrics.get("intervals") or {}).get("tasks", {})):
        if old in figures:
            figures[new] = figures.pop(old)
    return with_means(metrics, tasks)
