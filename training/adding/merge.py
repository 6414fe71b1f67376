"""Versions that added different tasks to one parent, made into one version."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from model.assembly import TaskPart, assemble, shared_state, task_parts
from model.bundle import CARD, Bundle
from model.errors import ConfigError, UnknownVersionError
from model.network import RoutedNetwork
from model.repository import Repository
from training.adding.figures import with_means
from training.errors import SettingsError


@dataclass(frozen=True, eq=False)
class _Addition:
    """One version, and the tasks that it has and its parent has not."""

    version: int
    bundle: Bundle
    parts: Sequence[TaskPart]

    @property
    def names(self) -> list[str]:
        return [part.task.name for part in self.parts]


def merge_versions(root: str | Path, name: str, versions: Sequence[int]) -> tuple[int, list[str]]:
    """Publish the parent of ``versions`` with everything that each of them added.

    Returns:
        The new version, and the names of the tasks that are not in the parent.

    Raises:
        SettingsError: fewer than two versions.
        ConfigError: other parents, a task added twice, or a version that did not only add tasks.
        UnknownVersionError: a version that is not there, or whose parent is not.
    """
    if len(set(versions)) < 2:
        raise SettingsError(f"merge needs two different versions, got {list(versions)}")
    repository = Repository(root)
    bundles = [(version, repository.read(name, version)) for version in versions]
    number, parent = _parent(repository, name, bundles)
    base = parent.network()
    additions = [_addition(version, bundle, base) for version, bundle in bundles]
    _check_distinct(additions)
    parts, generation = task_parts(base), base.config.generation_of[-1]
    for one in additions:
        for group in _by_generation(one.parts):
            generation += 1
            parts += [replace(part, generation=generation) for part in group]
    merged = assemble(base, parts)
    metrics = copy.deepcopy(parent.metrics)
    for one in additions:
        known = one.bundle.metrics.get("tasks", {})
        metrics.setdefault("tasks", {}).update({n: known[n] for n in one.names if n in known})
        intervals = (one.bundle.metrics.get("intervals") or {}).get("tasks", {})
        if metrics.get("intervals"):
            own = {n: intervals[n] for n in one.names if n in intervals}
            metrics["intervals"]["tasks"].update(own)
    metrics["merged"] = {str(version): bundle.digest for version, bundle in bundles}
    sources = ", ".join(f"version {one.version} ({', '.join(one.names)})" for one in additions)
    card = (parent.path / CARD).read_text(encoding="utf-8").rstrip()
    published = repository.publish(
        name,
        merged,
        metrics=with_means(metrics, merged.tasks),
        card=f"{card}\n\nMerged into version {number}: {sources}.\n",
        parent=number,
    )
    return published, [name for one in additions for name in one.names]


def _parent(
    repository: Repository, name: str, bundles: Sequence[tuple[int, Bundle]]
) -> tuple[int, Bundle]:
    parents = [bundle.manifest.parent for _, bundle in bundles]
    first = parents[0]
    told = ", ".join(
        f"{version} has {'no parent' if one is None else f'{one.version} ({one.digest[:15]})'}"
        for (version, _), one in zip(bundles, parents, strict=True)
    )
    if first is None or any(one is None or one.digest != first.digest for one in parents):
        raise ConfigError(
            f"cannot merge versions of {name} with different parents: {told}; add the tasks to one "
            "of them instead (add-task --version)"
        )
    try:
        parent = repository.read(name, first.version)
    except UnknownVersionError as error:
        raise UnknownVersionError(
            f"cannot merge: parent version {first.version} of {name} is gone, and with it what "
            "tells added tasks from old ones",
            model=name,
            version=first.version,
        ) from error
    if parent.digest != first.digest:
        raise ConfigError(
            f"cannot merge: version {first.version} of {name} is {parent.digest[:15]} here, the "
            f"versions were made from {first.digest[:15]}: they come from another repository"
        )
    return first.version, parent


def _addition(version: int, bundle: Bundle, base: RoutedNetwork) -> _Addition:
    """What ``version`` added to ``base``, which it must otherwise hold unchanged."""
    network = bundle.network()
    count = len(base.tasks)
    same = network.tasks.names[:count] == base.tasks.names and _equal(base, network)
    if not same or len(network.tasks) <= count:
        raise ConfigError(
            f"cannot merge version {version}: it did not only add tasks to its parent, but removed "
            "or renamed some or was trained anew",
            version=version,
        )
    return _Addition(version, bundle, task_parts(network)[count:])


def _equal(base: RoutedNetwork, network: RoutedNetwork) -> bool:
    """Whether ``network`` has the shared tensors and the tasks of ``base``, bit by bit."""
    found = shared_state(network)
    shared = shared_state(base)
    old = zip(task_parts(base), task_parts(network), strict=False)
    return (
        shared.keys() == found.keys()
        and all(torch.equal(one, found[name]) for name, one in shared.items())
        and all(
            torch.equal(one, new.tensors[name])
            for before, new in old
            for name, one in before.tensors.items()
        )
    )


def _check_distinct(additions: Sequence[_Addition]) -> None:
    owner: dict[str, int] = {}
    for one in additions:
        for name in one.names:
            if name in owner:
                raise ConfigError(
                    f"cannot merge: versions {owner[name]} and {one.version} both added a task "
                    f"{name!r}; leave one out, or add it to the parent once more, from data where "
                    "it has another name",
                    task=name,
                )
            owner[name] = one.version


def _by_generation(parts: Sequence[TaskPart]) -> list[list[TaskPart]]:
    numbers = dict.fromkeys(part.generation for part in parts)
    return [[part for part in parts if part.generation == number] for number in numbers]
