"""The list at the end of `make deploy-test`."""

from __future__ import annotations

from tests.deploy.lacking import NOWHERE, lacking


def test_each_reason_is_named_once_with_how_much_it_cost() -> None:
    lines = list(lacking(["no promtool", "no kubectl", "no promtool"]))
    assert lines[: len(NOWHERE)] == list(NOWHERE)
    assert lines[len(NOWHERE) :] == [
        "no promtool (2 tests skipped)",
        "no kubectl (1 test skipped)",
    ]
