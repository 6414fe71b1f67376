from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.decathlon_score import OFFICIAL_BASELINE, errors_of, points
from training.errors import DataError

PUBLISHED = {
    2118: (59.67, 56.68, 81.20, 93.88, 50.85, 97.05, 66.24, 89.62, 96.13, 47.45),
    2503: (59.18, 63.52, 81.12, 93.29, 54.93, 97.20, 82.29, 89.82, 95.99, 50.10),
    2621: (59.67, 61.87, 81.20, 93.88, 57.13, 97.57, 81.67, 89.62, 96.13, 50.12),
    2643: (59.23, 63.73, 81.31, 93.30, 57.02, 97.47, 83.43, 89.82, 96.17, 50.28),
    3131: (67.00, 67.69, 84.69, 94.28, 59.41, 97.43, 84.86, 89.92, 96.59, 52.39),
}
"""Scores of the residual adapters' paper with the accuracies (%) behind them, in the order of
OFFICIAL_BASELINE: plain, with predicted domains, with decay, fine-tuned, large."""


@pytest.mark.parametrize(("score", "accuracies"), PUBLISHED.items())
def test_published_errors_give_the_published_score(
    score: int, accuracies: tuple[float, ...]
) -> None:
    errors = {name: 1 - one / 100 for name, one in zip(OFFICIAL_BASELINE, accuracies, strict=True)}
    # Accuracies were published with four digits, scores are of unrounded ones.
    assert sum(points(errors, OFFICIAL_BASELINE).values()) == pytest.approx(score, abs=1.5)


def test_the_baseline_has_a_quarter_of_the_points() -> None:
    found = points(OFFICIAL_BASELINE, OFFICIAL_BASELINE)
    assert set(found) == set(OFFICIAL_BASELINE)
    assert list(found.values()) == pytest.approx([250.0] * 10)


def test_twice_the_baselines_error_is_worth_nothing_and_no_error_everything() -> None:
    baseline = {"a": 0.2, "b": 0.2, "c": 0.2, "d": 0.2}
    found = points({"a": 0.0, "b": 0.4, "c": 0.9, "d": 0.3}, baseline)
    assert found == pytest.approx({"a": 1000, "b": 0, "c": 0, "d": 62.5})


def test_what_is_no_error_is_refused() -> None:
    with pytest.raises(DataError, match="no baseline for domain 'digits'"):
        points({"digits": 0.1}, OFFICIAL_BASELINE)
    with pytest.raises(DataError, match="shares from 0 to 1"):
        points({"svhn": 96.5}, OFFICIAL_BASELINE)
    with pytest.raises(DataError, match="above 0"):
        points({"svhn": 0.1}, {"svhn": 0.0})
    with pytest.raises(DataError, match="'a' has no labels in split 'test'"):
        errors_of({"split": "test", "tasks": {"a": {"accuracy": None}}})


def test_of_two_classes_the_likelier_counts() -> None:
    tasks = {
        "two": {"accuracy": 0.7, "accuracy_at_half": 0.9},
        "three": {"accuracy": 0.6, "accuracy_at_half": None},
        "never right": {"accuracy": 0.0, "accuracy_at_half": 0.0},
    }
    found = errors_of({"split": "test", "tasks": tasks})
    assert found == pytest.approx({"two": 0.1, "three": 0.4, "never right": 1.0})
    with pytest.raises(DataError, match="no figures"):
        errors_of({"tasks": {"a": 0.3}})


def test_the_command_scores_what_evaluate_wrote(tmp_path: Path) -> None:
    def write(name: str, **accuracies: float) -> Path:
        tasks = {task: {"accuracy": accuracy} for task, accuracy in accuracies.items()}
        path = tmp_path / name
        path.write_text(json.dumps({"split": "test", "tasks": tasks}))
        return path

    ours, theirs = write("ours.json", a=1.0, b=0.8), write("theirs.json", a=0.5, b=0.8)
    command = [sys.executable, "-m", "training.decathlon_score", str(ours)]
    done = subprocess.run(
        [*command, "--baseline", str(theirs)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "score: 1250"
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "no baseline for domain 'a'" in refused.stderr


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text("{")
    command = [sys.executable, "-m", "training.decathlon_score", "half.json"]
    refused = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 1
    assert "half.json cannot be read" in refused.stderr
