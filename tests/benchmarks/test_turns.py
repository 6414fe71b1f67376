"""Two servers in turns: what the page says of the rounds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.bundles import BundleSpec
from benchmarks.samples import Run, Sample
from benchmarks.turns import Turns, _answered, _write


def test_the_ratio_is_the_median_of_the_rounds(tmp_path: Path) -> None:
    ours = Turns([100.0, 90.0, 300.0], [1.0, 2.0, 3.0])
    other = Turns([50.0, 100.0, 200.0], [2.0, 2.0, 2.0])

    _write(
        tmp_path,
        BundleSpec(40, 0.4, 64, "all"),
        "triton",
        {"all": {"ours": ours, "triton": other}},
        6.0,
        starts=1,
    )

    assert (
        "| all | 1x2 | 1x2 | 100 | 100 | 1.5 | 0.90 to 2.00 | 2.98 | 2 |"
        in (tmp_path / "README.md").read_text()
    )
    found = json.loads((tmp_path / "result.json").read_text())["workloads"]["all"]
    assert found["ratios"] == [2.0, 0.9, 1.5]


def test_a_server_that_does_not_answer_everything_has_no_figures() -> None:
    run = Run([Sample(0.0, 0.0, 0.1, 1, 200), Sample(0.0, 0.0, 0.1, 1, 429)], seconds=1.0)
    with pytest.raises(SystemExit, match=r"triton: errors .*, 1 refused"):
        _answered("triton", run)
