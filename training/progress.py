"""Progress of long work: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

_LINE_INTERVAL_S = 10.0


class ProgressDisplay(Protocol):
    """What long work reports to; entered for the time the work takes."""

    def __enter__(self) -> ProgressDisplay:
        return self

    def __exit__(self, *raised: object) -> None:
        return None

    def update(self, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` units of work, and what to say beside it: a loss, a rate."""


def progress_display(
    console: Console, title: str, clock: Callable[[], float] = time.monotonic
) -> ProgressDisplay:
    """A bar where ``console`` is a terminal, else lines."""
    return (
        ProgressBar(console, title) if console.is_terminal else ProgressLines(console, title, clock)
    )


class NoDisplay(ProgressDisplay):
    """Says nothing: for work that passes between two lines of another display."""

    def update(self, done: int, total: int, note: str = "") -> None:
        return None


class ProgressBar(ProgressDisplay):
    """A rich progress bar with time left; gone when the work is done."""

    def __init__(self, console: Console, title: str) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
        )
        self._task: TaskID = self._progress.add_task(title, total=None, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._progress.stop()

    def update(self, done: int, total: int, note: str = "") -> None:
        self._progress.update(self._task, completed=done, total=total, note=note)


class ProgressLines(ProgressDisplay):
    """A plain line every ten seconds and one at the end, for logs."""

    def __init__(
        self, console: Console, title: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._title = title
        self._clock = clock

    def __enter__(self) -> Self:
        self._started = self._said = self._clock()
        return self

    def update(self, done: int, total: int, note: str = "") -> None:
        now = self._clock()
        if done < total and now - self._said < _LINE_INTERVAL_S:
            return
        self._said = now
        elapsed = now - self._started
        left = f", {elapsed / done * (total - done):.0f} s left" if 0 < done < total else ""
        self._console.print(
            f"{self._title}: {done}/{total} in {elapsed:.0f} s{left}{', ' if note else ''}{note}",
            highlight=False,
            markup=False,
        )
