"""What a refresh found out: as JSON, kept with the version, and as text for a person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from training.refresh.comparison import Change, Comparison, TaskComparison
from training.refresh.gate import Condition, verdict
from training.refresh.settings import GateSettings


@dataclass(frozen=True)
class VersionName:
    """A version, and the digest of its bundle."""

    version: int
    digest: str


@dataclass(frozen=True)
class GateReport:
    """One judgement on a candidate."""

    model: str
    source: str
    old: VersionName
    """What LATEST named: what the candidate would replace."""
    trained_from: VersionName
    """What the candidate's weights began with: another one where LATEST has moved meanwhile."""
    comparison: Comparison
    conditions: tuple[Condition, ...]
    settings: GateSettings
    run: str = ""
    """Name of the run, the same for all its attempts."""

    @property
    def passed(self) -> bool:
        return all(condition.passed for condition in self.conditions)

    @property
    def failed(self) -> tuple[Condition, ...]:
        return tuple(condition for condition in self.conditions if not condition.passed)

    def to_json(self) -> dict[str, Any]:
        """As ``metrics.json`` of the new version has it under ``refresh``, and ``--json``."""
        comparison = self.comparison
        return {
            "model": self.model,
            "source": self.source,
            "run": self.run,
            "passed": self.passed,
            "old": asdict(self.old),
            "trained_from": asdict(self.trained_from),
            "split": comparison.split,
            "images": comparison.images,
            "resamples": comparison.resamples,
            "conditions": [asdict(condition) for condition in self.conditions],
            "macro": {name: _change(change) for name, change in comparison.macro.items()},
            "tasks": {task.name: _task(task, self.settings) for task in comparison.tasks},
            "settings": self.settings.model_dump(mode="json"),
        }

    def to_text(self) -> str:
        """The conditions first, then every task, the worst change on top."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        comparison = self.comparison
        yield (
            f"{self.model}: a candidate trained from version {self.trained_from.version} on "
            f"{self.source} against version {self.old.version}, on the same {comparison.images} "
            f"images of split {comparison.split}"
        )
        for condition in self.conditions:
            yield f"  {'passed ' if condition.passed else 'REFUSED'} {condition.name}: " + (
                condition.text
            )
        yield ""
        width = max(len(task.name) for task in comparison.tasks)
        yield (
            f"{'task':<{width}}  labels  AP old    new   change  95 % interval       "
            "ECE old    new  moved   most  relabelled  verdict"
        )
        for task in sorted(comparison.tasks, key=_badness):
            yield f"{task.name:<{width}}  {_row(task)}  {verdict(task, self.settings)}"
        yield (
            "AP: average precision. moved, most: mean and largest change of a probability. "
            "relabelled: share of images with another label."
        )


def _badness(task: TaskComparison) -> float:
    difference = task.figures["average_precision"].difference
    return 1.0 if difference is None else difference


def _row(task: TaskComparison) -> str:
    precision, ece, moved = task.figures["average_precision"], task.figures["ece"], task.moved
    interval = "-"
    if precision.interval is not None:
        interval = f"{precision.interval[0]:+.3f} to {precision.interval[1]:+.3f}"
    difference = "-" if precision.difference is None else f"{precision.difference:+.3f}"
    return (
        f"{task.images:>6}  {_figure(precision.old):>6}  {_figure(precision.new):>5}  "
        f"{difference:>7}  {interval:<18}  {_figure(ece.old):>7}  {_figure(ece.new):>5}  "
        f"{moved.mean:.3f}  {moved.largest:.3f}  {moved.relabelled:>10.1%}"
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _change(change: Change) -> dict[str, Any]:
    difference = change.difference
    return {
        "old": change.old,
        "new": change.new,
        "difference": None if difference is None else round(difference, 6),
        "interval": change.interval,
    }


def _task(task: TaskComparison, settings: GateSettings) -> dict[str, Any]:
    return {
        "group": task.group,
        "images": task.images,
        **{name: _change(change) for name, change in task.figures.items()},
        "moved": asdict(task.moved),
        "verdict": verdict(task, settings),
    }
