"""Each condition of the gate, met and not, and the report that says so."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from training.refresh.comparison import Change, Comparison, Movement, TaskComparison
from training.refresh.gate import Condition, SelfCheck, judge, verdict
from training.refresh.report import GateReport, VersionName
from training.refresh.settings import GateSettings

SETTINGS = GateSettings()
STILL = Movement(0.01, 0.02, 0.1, 0.03)
SOUND = SelfCheck(1e-7)


def change(old: float, new: float, spread: float = 0.01) -> Change:
    difference = new - old
    return Change(old, new, (difference - spread, difference + spread))


def task(name: str, precision: Change, ece: Change | None = None) -> TaskComparison:
    figures = {"average_precision": precision, "ece": ece or change(0.02, 0.02)}
    return TaskComparison(name, "g", 100, figures | {"auroc": change(0.9, 0.9)}, STILL)


def comparison(*tasks: TaskComparison, **macro: Change) -> Comparison:
    means = {
        "average_precision": change(0.8, 0.8),
        "ece": change(0.02, 0.02),
        "auroc": change(0.9, 0.9),
    }
    listed = tasks or (task("hat", change(0.8, 0.8)),)
    return Comparison("test", 100, 500, listed, means | macro)


def failed(found: Comparison, **changes: object) -> list[str]:
    given = {"lost": (), "check": SOUND, "published_auroc": 0.92} | changes
    conditions: tuple[Condition, ...] = judge(found, settings=SETTINGS, **given)  # type: ignore[arg-type]
    return [condition.name for condition in conditions if not condition.passed]


def test_an_equal_version_passes() -> None:
    assert failed(comparison()) == []
    assert failed(comparison(), published_auroc=None) == []


@pytest.mark.parametrize(("new", "refused"), [(0.791, False), (0.789, True), (0.9, False)])
def test_the_mean_may_fall_by_so_much(new: float, refused: bool) -> None:
    found = failed(comparison(average_precision=change(0.8, new)))
    assert found == (["macro average precision"] if refused else [])


@pytest.mark.parametrize(
    ("new", "spread", "refused"),
    [(0.75, 0.01, True), (0.75, 0.04, False), (0.79, 0.001, False), (0.70, 0.07, True)],
)
def test_a_task_may_fall_by_so_much_and_by_what_chance_explains(
    new: float, spread: float, refused: bool
) -> None:
    fallen = task("shoe", change(0.8, new, spread))
    found = failed(comparison(task("hat", change(0.8, 0.9)), fallen))
    assert found == (["each task's average precision"] if refused else [])
    assert (verdict(fallen, SETTINGS) == "refused") is refused


def test_calibration_may_become_worse_by_so_much() -> None:
    assert failed(comparison(ece=change(0.02, 0.045))) == ["macro calibration error"]
    assert failed(comparison(ece=change(0.02, 0.025))) == []
    for precision in (change(0.8, 0.8), Change(None, None, None)):
        risen = task("shoe", precision, change(0.02, 0.1))
        assert failed(comparison(risen)) == ["each task's calibration error"]
        assert verdict(risen, SETTINGS) == "refused"


def test_wrong_labels_are_seen_although_both_versions_fail_alike() -> None:
    found = comparison(auroc=change(0.51, 0.50))
    conditions = judge(found, (), SOUND, 0.92, SETTINGS)
    (wrong,) = [condition for condition in conditions if not condition.passed]
    assert wrong.name == "macro AUROC as published"
    assert "are their labels right?" in wrong.text


def test_a_broken_network_a_lost_task_or_nothing_to_compare() -> None:
    assert failed(comparison(), check=SelfCheck(0.01)) == ["self-check"]
    assert failed(comparison(), check=SelfCheck(0.0, ("heads.weight",))) == ["self-check"]
    assert failed(comparison(), lost=("shoe",)) == ["every task"]
    nothing = Change(None, None, None)
    found = comparison(average_precision=nothing, ece=nothing, auroc=nothing)
    assert failed(found) == ["macro average precision", "macro calibration error"]


def test_verdicts_of_tasks() -> None:
    words = {
        verdict(task("x", precision), SETTINGS)
        for precision in (
            change(0.8, 0.9),
            change(0.8, 0.801),
            change(0.8, 0.785),
            change(0.8, 0.7),
            Change(None, None, None),
        )
    }
    assert words == {"better", "as good", "worse", "refused", "unknown"}


def test_the_report_tells_every_task_and_every_condition() -> None:
    found = comparison(
        task("hat", change(0.8, 0.9)),
        task("shoe", change(0.8, 0.6)),
        task("unlabelled", Change(None, None, None)),
    )
    conditions = judge(found, (), SOUND, 0.92, SETTINGS)
    old = VersionName(3, "sha256:a")
    report = GateReport("m", "csv:x.csv", old, old, found, conditions, SETTINGS, "run")
    assert not report.passed
    text = report.to_text()
    assert "REFUSED each task's average precision: 1 task fell" in text
    assert text.index("shoe ") < text.index("hat ") < text.index("unlabelled ")
    told = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert told["tasks"]["shoe"]["verdict"] == "refused"
    assert told["tasks"]["shoe"]["average_precision"]["difference"] == pytest.approx(-0.2)
    assert told["tasks"]["unlabelled"]["average_precision"]["interval"] is None
    assert told["tasks"]["hat"]["moved"] == {
        "mean": 0.01, "p95": 0.02, "largest": 0.1, "relabelled": 0.03,
    }  # fmt: skip
    assert replace(report, conditions=conditions[:1]).passed
