"""Progress: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import io
from collections.abc import Iterator

from rich.console import Console

from training.progress import ProgressBar, ProgressLines, progress_display


def test_lines_now_and_then_and_at_the_end() -> None:
    times: Iterator[float] = iter([0.0, 1.0, 11.0, 12.0, 20.0])
    out = io.StringIO()
    lines = ProgressLines(Console(file=out, width=200), "training", lambda: next(times))
    with lines as display:
        for done in (1, 50, 51, 100):
            display.update(done, 100, "loss 0.5")
    assert out.getvalue().splitlines() == [
        "training: 50/100 in 11 s, 11 s left, loss 0.5",
        "training: 100/100 in 20 s, loss 0.5",
    ]


def test_names_are_not_markup() -> None:
    out = io.StringIO()
    with ProgressLines(Console(file=out, width=200), "[bold]x", lambda: 0.0) as display:
        display.update(1, 1)
    assert out.getvalue() == "[bold]x: 1/1 in 0 s\n"


def test_a_terminal_gets_a_bar_with_everything_on_it() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    display = progress_display(console, "training")
    assert isinstance(display, ProgressBar)
    with display:
        display.update(30, 100, "loss 0.5, 900 images/s")
    assert "training" in out.getvalue()
    assert "30/100" in out.getvalue()
    assert "900 images/s" in out.getvalue()


def test_a_file_gets_lines() -> None:
    assert isinstance(progress_display(Console(file=io.StringIO()), "x"), ProgressLines)
