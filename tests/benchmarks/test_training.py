"""The comparisons of methods of training, as command lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.training import COMPARISONS, DATA, STAGES, command
from training.compare.sweep import DECIDED
from training.methods import choose_methods


@pytest.mark.parametrize("name", COMPARISONS)
def test_every_stage_is_a_comparison_that_can_be_asked_for(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA, "/data")
    one = COMPARISONS[name]
    for stage in one.stages:
        words = command(one, stage, Path("/fashion"), Path("out"))
        options = dict(zip(words[4::2], words[5::2], strict=True))
        assert options["--out"] == f"out/{name}"
        assert options["--data"] in (f"pack:/data/{one.pack}", "fashion-mnist:/fashion")
        assert not {f"--{setting}" for setting in DECIDED} & options.keys()
        given = {
            option.removeprefix("--").replace("-", "_"): value
            for option, value in options.items()
            if option not in ("--data", "--out", "--methods", "--keeps", "--seeds", "--budget-s")
        }
        for method in choose_methods(stage.methods.split(",")):
            method.settings(given)


def test_the_last_stage_has_what_the_earlier_ones_have() -> None:
    methods, keeps = set(STAGES[-1].methods.split(",")), set(STAGES[-1].keeps.split(","))
    for stage in STAGES:
        assert set(stage.methods.split(",")) <= methods
        assert set(stage.keeps.split(",")) <= keeps
