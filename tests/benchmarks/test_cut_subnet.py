"""The cells of one subnet's measurements."""

from __future__ import annotations

import pytest
import torch

from benchmarks.cut_subnet import cells


def test_every_combination_is_measured_with_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    found = cells(
        lambda *cell: {"cell": cell, "set": given[-1]},
        sizes="64,224", rows="1", keep=0.4, threads="1,2", rounds=3,
    )  # fmt: skip
    assert [(one["cell"], one["set"]) for one in found] == [
        ((64, 1, 0.4, 1, 3), 1),
        ((224, 1, 0.4, 1, 3), 1),
        ((64, 1, 0.4, 2, 3), 2),
        ((224, 1, 0.4, 2, 3), 2),
    ]
