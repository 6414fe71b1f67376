"""How far a job is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

import rich.progress
from rich.console import Console

_LINE_INTERVAL_S = 10.0


class Progress:
    """Parts of the job and images so far; entered for as long as it runs."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("parts"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None)
        self._parts = self._all = self._images = self._added = 0

    def __enter__(self) -> Progress:
        self._bar.start()
        self._began = self._said = self._clock()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def begin(self, parts: int, all_parts: int, images: int) -> None:
        """``parts`` of ``all_parts``, with so many images, were there before."""
        self._parts, self._all, self._images = parts, all_parts, images
        self._show()

    def advance(self, images: int) -> None:
        """So many more images are scored."""
        self._images += images
        self._added += images
        self._show()

    def part_done(self, images: int = 0) -> None:
        """One more file is there, with ``images`` that :meth:`advance` was not told of."""
        self._parts += 1
        self.advance(images)

    def say(self, text: str) -> None:
        """Something that a person should know."""
        self._console.print(text, highlight=False, markup=False)

    def _show(self) -> None:
        now = self._clock()
        rate = self._added / (now - self._began) if now > self._began else 0.0
        text = f"{self._images} images, {rate:.0f}/s"
        self._bar.update(self._task, completed=self._parts, total=self._all, description=text)
        if self._console.is_terminal or (
            now - self._said < _LINE_INTERVAL_S and self._parts < self._all
        ):
            return
        self._said = now
        self._console.print(
            f"{self._parts} of {self._all} parts, {text}", highlight=False, markup=False
        )
