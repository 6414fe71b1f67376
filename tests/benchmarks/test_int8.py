"""The subnet in 8-bit integers answers what the engine's answers."""

from __future__ import annotations

import platform

import pytest

from benchmarks.int8 import measure


@pytest.mark.skipif(
    platform.machine() != "x86_64", reason="oneDNN's quantized convolutions are built for x86"
)
def test_integers_answer_nearly_what_float32_does() -> None:
    found = measure(size=32, rows=2, keep=0.4, threads=1, rounds=1)
    assert found["largest_dp"]["float32"] == 0
    assert found["largest_dp"]["int8"] < 0.02
    assert set(found["seconds"]) == {"float32", "bfloat16", "int8"}
    assert all(ratio > 0 for ratio in found["int8_over"].values())
