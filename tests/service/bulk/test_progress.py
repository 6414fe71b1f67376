"""What is said where there is no terminal."""

from __future__ import annotations

import io

from rich.console import Console

from service.bulk.progress import Progress


class SettableClock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_now_and_then_and_one_at_the_end() -> None:
    said, clock = io.StringIO(), SettableClock()
    with Progress(Console(file=said), clock) as progress:
        progress.begin(1, 3, images=40)
        clock.now += 5
        progress.advance(10)
        progress.part_done()
        clock.now += 5
        progress.advance(20)
        clock.now += 2
        progress.part_done()
    assert said.getvalue().splitlines() == [
        "2 of 3 parts, 70 images, 3/s",
        "3 of 3 parts, 70 images, 2/s",
    ]


def test_images_of_parts_that_other_processes_score_are_counted_with_the_part() -> None:
    said, clock = io.StringIO(), SettableClock()
    with Progress(Console(file=said), clock) as progress:
        progress.begin(0, 1, images=0)
        clock.now += 4
        progress.part_done(images=100)
    assert said.getvalue() == "1 of 1 parts, 100 images, 25/s\n"
