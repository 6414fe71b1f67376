"""The gate: conditions on a comparison, each with what was seen and what is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from training.refresh.comparison import Change, Comparison, TaskComparison
from training.refresh.settings import GateSettings

Word = Literal["better", "as good", "worse", "refused", "unknown"]


@dataclass(frozen=True)
class Condition:
    """One thing that must hold for a version to be published."""

    name: str
    passed: bool
    text: str
    """What was seen, what is allowed, and which setting says so."""


@dataclass(frozen=True)
class SelfCheck:
    """Whether the new version computes what it should, whatever it has learnt."""

    error: float
    """Largest difference of a probability between the cut and the masked network."""
    not_finite: tuple[str, ...] = ()
    """Tensors that hold NaN or infinity."""


def judge(
    comparison: Comparison,
    lost: Sequence[str],
    check: SelfCheck,
    published_auroc: float | None,
    settings: GateSettings,
) -> tuple[Condition, ...]:
    """Every condition; a version is published where all passed.

    Args:
        lost: tasks that the old version answers and the new one does not.
        published_auroc: the macro AUROC that the old version was published with, if any.
    """
    return (
        _every_task(lost),
        _macro_precision(comparison, settings),
        _tasks_precision(comparison, settings),
        _macro_calibration(comparison, settings),
        _tasks_calibration(comparison, settings),
        _as_published(comparison.macro["auroc"], published_auroc, settings),
        _self_check(check, settings),
    )


def verdict(task: TaskComparison, settings: GateSettings) -> Word:
    """What the gate says of one task, in a word; better and worse are beyond chance."""
    change = task.figures["average_precision"]
    if fell_too_far(change, settings.max_task_drop) or _rose_too_far(
        task.figures["ece"], settings.max_task_ece_rise
    ):
        return "refused"
    if change.interval is None:
        return "unknown"
    low, high = change.interval
    return "better" if low > 0 else "worse" if high < 0 else "as good"


def fell_too_far(change: Change, allowed: float) -> bool:
    """Whether a figure fell by more than ``allowed``, its whole interval included."""
    return change.interval is not None and change.interval[1] < -allowed


def _rose_too_far(change: Change, allowed: float) -> bool:
    return change.interval is not None and change.interval[0] > allowed


def _every_task(lost: Sequence[str]) -> Condition:
    name = "every task"
    if not lost:
        return Condition(name, True, "the old version's tasks are all answered")
    text = f"not answered any more: {', '.join([*lost[:5], *_more(len(lost) - 5)])}"
    return Condition(name, False, text)


def _macro_precision(comparison: Comparison, settings: GateSettings) -> Condition:
    change, allowed = comparison.macro["average_precision"], settings.max_macro_drop
    if change.difference is None:
        text = (
            f"no task has both classes among the {comparison.images} images of split "
            f"{comparison.split}: nothing can be compared; give the data more held-out images"
        )
        return Condition("macro average precision", False, text)
    text = (
        f"{change.old:.4f} -> {change.new:.4f} ({change.difference:+.4f}); may fall by "
        f"{allowed:g} (max_macro_drop)"
    )
    return Condition("macro average precision", change.difference >= -allowed, text)


def _tasks_precision(comparison: Comparison, settings: GateSettings) -> Condition:
    allowed = settings.max_task_drop
    fallen = [
        f"{task.name} {_told(task.figures['average_precision'])}"
        for task in comparison.tasks
        if fell_too_far(task.figures["average_precision"], allowed)
    ]
    text = f"{_counted(fallen)} by more than {allowed:g} beyond chance (max_task_drop)"
    return Condition("each task's average precision", not fallen, _with_names(text, fallen))


def _macro_calibration(comparison: Comparison, settings: GateSettings) -> Condition:
    change, allowed = comparison.macro["ece"], settings.max_ece_rise
    difference = change.difference
    if difference is None:
        return Condition("macro calibration error", False, "no held-out image has a label")
    text = (
        f"{change.old:.4f} -> {change.new:.4f} ({difference:+.4f}); may rise by {allowed:g} "
        "(max_ece_rise)"
    )
    return Condition("macro calibration error", difference <= allowed, text)


def _tasks_calibration(comparison: Comparison, settings: GateSettings) -> Condition:
    allowed = settings.max_task_ece_rise
    risen = [
        f"{task.name} {_told(task.figures['ece'])}"
        for task in comparison.tasks
        if _rose_too_far(task.figures["ece"], allowed)
    ]
    text = f"{_counted(risen, 'rose')} by more than {allowed:g} beyond chance (max_task_ece_rise)"
    return Condition("each task's calibration error", not risen, _with_names(text, risen))


def _as_published(change: Change, published: float | None, settings: GateSettings) -> Condition:
    name, allowed = "macro AUROC as published", settings.max_published_drop
    if published is None or change.new is None or change.old is None:
        return Condition(name, True, "not known of the old version or of these images")
    least = published - allowed
    text = (
        f"{change.new:.4f}; the old version was published with {published:.4f} on its own held-out "
        f"images; may be {allowed:g} below (max_published_drop)"
    )
    if change.old < least:
        text += f"; the old version has {change.old:.4f} on these images: are their labels right?"
    return Condition(name, change.new >= least, text)


def _self_check(check: SelfCheck, settings: GateSettings) -> Condition:
    allowed = settings.max_self_check_error
    if check.not_finite:
        named = ", ".join(check.not_finite[:3])
        text = f"NaN or infinity in {len(check.not_finite)} tensors, {named} among them"
        return Condition("self-check", False, text)
    text = (
        f"a probability of the cut network differs by {check.error:.2g} from the masked one's; "
        f"may differ by {allowed:g} (max_self_check_error)"
    )
    return Condition("self-check", check.error <= allowed, text)


def _told(change: Change) -> str:
    return f"{change.old:.3f} -> {change.new:.3f}"


def _counted(tasks: list[str], verb: str = "fell") -> str:
    if not tasks:
        return f"no task {verb}"
    return f"{len(tasks)} task{'s' if len(tasks) > 1 else ''} {verb}"


def _with_names(text: str, tasks: list[str], limit: int = 5) -> str:
    shown = [*tasks[:limit], *_more(len(tasks) - limit)]
    return f"{text}: {', '.join(shown)}" if tasks else text


def _more(count: int) -> Iterator[str]:
    if count > 0:
        yield f"and {count} more"
