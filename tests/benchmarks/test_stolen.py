from __future__ import annotations

from pathlib import Path

from benchmarks.stolen import stolen_since


def test_the_share_is_of_the_time_since(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 0 50 100 0 0 0 30 0 0\ncpu0 1 2 3 4\n")
    share = stolen_since(stat)
    assert share() == 0
    stat.write_text("cpu  130 0 60 150 0 0 0 40 9 9\ncpu0 1 2 3 4\n")
    assert share() == 0.1


def test_a_system_that_does_not_say(tmp_path: Path) -> None:
    assert stolen_since(tmp_path / "stat")() is None
