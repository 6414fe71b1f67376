from __future__ import annotations

import pytest

from benchmarks.step_tasks import measure


def test_both_ways_take_the_same_steps() -> None:
    given = {"image_size": "28", "width": 0.02, "batch_size": 4, "unit_multiple": 1}
    one, three = measure(given, (1, 3), 2)
    for found in (one, three):
        # Rounding differs, and grows from step to step.
        expected = pytest.approx(found["losses"]["one by one"], rel=1e-3)
        assert found["losses"]["side by side"] == expected
        assert all(len(taken) == 2 for taken in found["seconds"].values())
    assert one["tasks"] == 1
    assert three["losses"]["hard sharing"] != pytest.approx(three["losses"]["one by one"], rel=1e-3)
