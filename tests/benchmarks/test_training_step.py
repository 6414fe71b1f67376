"""The benchmark of a training step measures what it says."""

from __future__ import annotations

from benchmarks.training_step import LOSS_TOLERANCE, measure
from training.config import TrainSettings
from training.settings_files import load_settings


def test_both_ways_start_with_the_same_loss_and_are_timed_every_round() -> None:
    given = {"width": 0.125, "keep": 0.5, "image_size": 32}
    result = measure(load_settings(TrainSettings, "paper", given), batch=4, rounds=2)
    assert result["loss_difference"] <= LOSS_TOLERANCE
    assert {way: len(seconds) for way, seconds in result["seconds"].items()} == {
        "cut": 2, "masked": 2,
    }  # fmt: skip
    assert all(one > 0 for seconds in result["seconds"].values() for one in seconds)
    # Each way trains a network of its own: the loss moves from step to step.
    assert all(len(set(losses)) == 3 for losses in result["losses"].values())
